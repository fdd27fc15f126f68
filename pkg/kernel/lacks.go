// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// LacksLink reports whether the kernel knows no links of a type (vlan, macvlan, ...),
// also after it looked for a module of that name, as it does for an ADD. Only making
// one tells, so that is tried in a network namespace that nobody else sees.
func (k *Kernel) LacksLink(kind string) (lacks bool, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return false, fmt.Errorf("create a network namespace: %w", err)
	}
	defer goHome(k.Host.home)
	c, err := dial(unix.NETLINK_ROUTE, k.Host.conn.buffers)
	if err != nil {
		return false, err
	}
	defer c.close()
	req := request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.NewIfInfomsg(unix.AF_UNSPEC))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	req.AddData(info)
	// Types that sit on a link want to know which, which is another error
	// (rtnl_newlink, "Unknown device type").
	return errors.Is(c.do(req, nil), unix.EOPNOTSUPP), nil
}
