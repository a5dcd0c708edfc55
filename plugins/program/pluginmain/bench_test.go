package pluginmain

import (
	"bufio"
	"io"
	"testing"
)

func BenchmarkServe(b *testing.B) {
	in, feed := io.Pipe()
	out, w := io.Pipe()
	var opened, closed int
	go func() {
		_ = Serve(b.Context(), source("a client secret of some length", &opened, &closed), in, w)
		w.Close()
	}()
	lines := bufio.NewReader(out)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = io.WriteString(feed, `{"id":1234,"method":"lookup","protocol":1,"timeout_ms":29999,"path":"app","stage":"current"}`+"\n")
		if _, err := lines.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
	}
	feed.Close()
}
