// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestSizes lowers the MTU of links on the way, one after the other, and sends pings to the
// node of the size that the link to it takes.
func TestSizes(t *testing.T) {
	s := up(t, "underlay")
	node := netip.MustParseAddr("10.6.168.123")
	passes := func(size int) bool {
		err := s.Web.Ping(node, testbed.Socket{Size: size})
		if errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("a ping of %d bytes: %v, but nobody should tell", size, err)
		}
		return err == nil
	}
	if !passes(1500) {
		t.Error("the control: 1500 bytes don't pass")
	}
	var text bytes.Buffer
	for _, c := range []struct{ link, line string }{
		{"ens192", "--to 10.96.0.10:80"},
		{"ens192", "--to 192.0.2.10 --in veth0"},
		{s.Web.HostEnd(lab.NIC), "--to 10.6.168.123"},
	} {
		words := strings.Fields("ip link set " + c.link + " mtu 1400")
		if err := s.Node.Do(func() error { return exec.Command(words[0], words[1:]...).Run() }); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "node# %s\n$ multihome trace web %s\n", strings.Join(words, " "), c.line)
		if err := report.Write(&text, "text", follow(t, s.Node.Do, s.Web, c.line)); err != nil {
			t.Fatal(err)
		}
		text.WriteString("\n")
	}
	if backend(t) == "nftables" {
		golden(t, "sizes.txt", text.Bytes())
	}
	if !passes(1400) || passes(1500) {
		t.Error("want pings of 1400 bytes to pass, and those of 1500 not to")
	}
}
