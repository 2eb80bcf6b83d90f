package traffic

import ("testing";"context";"net";"fmt";"time")
func TestTry(t *testing.T) {
	for _, mp := range []bool{false,true} {
	var lc net.ListenConfig
	lc.SetMultipathTCP(mp)
	l, _ := lc.Listen(context.Background(),"tcp","127.0.0.1:0")
	s := Serve(l)
	d := Dial(func(ctx context.Context) (net.Conn, error) { var d net.Dialer; d.SetMultipathTCP(mp); return d.DialContext(ctx,"tcp",s.Addr().String())})
	for _, op := range []Op{Download,Upload,Echo} {
		r, err := d.Do(context.Background(), op, Request{Bytes: 4e9, For: 2*time.Second, Interval: 200*time.Millisecond})
		fmt.Println(op, r, err, len(r.Intervals))
	}
	fmt.Println(d.Identify(context.Background()))
	fmt.Println(d.Run(context.Background(), Load{Clients:4,Bytes:1000,For:time.Second}))
	s.Close()
	}
	pc, _ := net.ListenPacket("udp","127.0.0.1:0")
	go ServeUDP(pc)
	c, _ := net.Dial("udp",pc.LocalAddr().String())
	fmt.Println(Stream{Count:100,Interval:5*time.Millisecond,Size:200}.Run(context.Background(), c))
}
