#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a command as root on a user-mode Linux kernel, which has drivers that this
# kernel may lack (bonding, 8021q, dummy, ...). The command sees the host's file system,
# and runs in the same directory with the same environment; its output streams and exit
# status are passed on. If the guest crashes, or runs longer than UML_TIMEOUT seconds,
# the script fails and shows its console.
#
#     go test -exec "$PWD/hack/uml.sh" ./integration/uml    (with CGO_ENABLED=0)
#
# UML_KERNEL is put on the kernel's command line: ipv6.disable=1, say. UML_LINUX is a kernel
# of hack/kernels.sh, with all drivers built in, that runs instead of Debian's.
#
# In the guest /run, /dev, /proc and /sys are its own; the rest is the host's.
set -u
modules="ipv6 veth dummy bridge macvlan ipvlan 8021q vrf"
timeout=${UML_TIMEOUT:-7200} # ends a guest that hangs; even a slow machine needs less

work=$(mktemp -d /var/tmp/uml.XXXXXX) || exit 125
trap 'rm -rf "$work"' EXIT
printf '%s\0' "$@" >"$work/argv"
env -0 >"$work/env"
pwd >"$work/cwd"
mkdir -p "$work/root/lib/modules"
if [ -n "${UML_LINUX-}" ]; then
	linux=$UML_LINUX modules=
	UML_KERNEL="bonding.max_bonds=0 ${UML_KERNEL-}"
else
	linux=linux.uml
	# Debian keeps the modules where modprobe doesn't look for them.
	release=$(ls /usr/lib/uml/modules | sort -V | tail -n 1)
	ln -s "/usr/lib/uml/modules/$release" "$work/root/lib/modules/$release"
fi
printf %s "$modules" >"$work/modules"
printf '#!/bin/sh\nexec /sbin/modprobe -d %s/root "$@"\n' "$work" >"$work/modprobe"

cat >"$work/init" <<'EOF_INIT'
#!/bin/bash
work=${0%/init}
export PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
for i in stdin:0 stdout:1 stderr:2; do ln -sfn "/proc/self/fd/${i#*:}" "/dev/${i%:*}"; done
ln -sfn /proc/self/fd /dev/fd
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/tmp /run/lock
chmod 1777 /run/tmp
# The kernel loads modules on demand, as it does on a node.
echo "$work/modprobe" >/proc/sys/kernel/modprobe
[ ! -s "$work/modules" ] || modprobe -d "$work/root" -a $(<"$work/modules")
ip link set lo up
stty -F /dev/tty1 raw -echo
stty -F /dev/tty2 raw -echo
cd "$(<"$work/cwd")"
mapfile -d '' -t argv <"$work/argv"
mapfile -d '' -t environment <"$work/env"
env -i "${environment[@]}" TMPDIR=/run/tmp "${argv[@]}" </dev/null >/dev/tty1 2>/dev/tty2
echo $? >"$work/status"
sync
exec halt -f -p >/dev/null 2>&1
EOF_INIT
chmod +x "$work/init" "$work/modprobe"

# The guest gets its own PID namespace, so that no process outlives it, and pdeathsig,
# so that none outlives this script. The guest's kernel must not be PID 1 there: the
# abort() that ends a panic would be ignored.
# Descriptors 7 and 8 are the command's streams, 9 is the console.
die="setpriv --pdeathsig KILL"
$die timeout -s KILL "$timeout" $die unshare -pf --kill-child --mount-proc \
	sh -c '"$@" & wait $!' uml "$linux" mem=1G rootfstype=hostfs rootflags=/ rw \
	init="$work/init" quiet loglevel=3 dummy.numdummies=0 fb_tunnels=none \
	${UML_KERNEL-} uml_dir="$work" umid=uml con=null ssl=null con0=null,fd:9 con1=null,fd:7 con2=null,fd:8 \
	7>&1 8>&2 9>"$work/console" >"$work/kernel" 2>&1 </dev/null
ended=$?
if [ -s "$work/status" ]; then
	exit "$(<"$work/status")"
fi
{
	case $ended in
	137) echo "uml: killed: still running after $timeout seconds, or out of memory" ;;
	*) echo "uml: the guest ended ($ended) before the command did" ;;
	esac
	tail -c 4000 "$work/kernel" "$work/console"
} >&2
exit 125
