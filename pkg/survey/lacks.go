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

// LacksLink reports whether the kernel knows no links of a type (vlan, macvlan, ...),
// also after it looked for a module of that name, as it does for an ADD. Only making
// one tells, so that is tried in a network namespace that nobody else sees.
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
	// Types that sit on a link want to know which, which is another error
	// (rtnl_newlink, "Unknown device type").
	return errors.Is(c.Do(req, nil), unix.EOPNOTSUPP), nil
}
