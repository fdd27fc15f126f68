// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netns"
)

// LacksLink reports whether the kernel can't make links of a type (vlan, macvlan, ...).
// Like ADD, it has the kernel look for a module of that type. Only making a link tells,
// so it tries to make one in a new network namespace of its own.
func LacksLink(k *kernel.Namespaces, kind string) (lacks bool, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return false, fmt.Errorf("create a network namespace: %w", err)
	}
	defer netns.Return(k.Host.Home())
	c, err := netlink.Dial(unix.NETLINK_ROUTE, k.Host.Conn().Buffers)
	if err != nil {
		return false, err
	}
	defer c.Close()
	req := netlink.NewRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.NewIfInfomsg(unix.AF_UNSPEC))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	req.AddData(info)
	// An unknown type is EOPNOTSUPP (rtnl_newlink, "Unknown device type"). Types that
	// need a parent fail with another error, because the request names none.
	return errors.Is(c.Do(req, nil), unix.EOPNOTSUPP), nil
}
