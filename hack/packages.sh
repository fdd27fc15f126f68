#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that the tests need and this machine lacks; with
# the argument e2e also those for the clusters of `make e2e`, with the argument kernels those
# that build the kernels of `make test-kernels`. The plugins themselves
# need none of them: the tests read the kernel's state with these programs, and so
# independently of the plugins, and run containers by podman.
set -eu

missing=
need() { # need PACKAGE FILE-OR-COMMAND
	command -v "$2" >/dev/null || test -e "$2" || missing="$missing $1"
}
need iproute2 ip
need nftables nft
need iptables iptables
need tcpdump tcpdump
need curl curl
need strace strace
need graphviz dot
need user-mode-linux linux.uml             # for hack/uml.sh
need kmod /sbin/modprobe                   # for hack/uml.sh
need gcc gcc                          # for go test -race
need libc6-dev /usr/include/stdlib.h  # for go test -race
need podman podman
need containernetworking-plugins /usr/lib/cni/macvlan # for podman; netavark would satisfy it, too
need crun crun                        # for podman; runc needs cgroups
if [ "${1:-}" = e2e ]; then
	need runc runc
	need openssl openssl
	need busybox-static /usr/share/doc/busybox-static/copyright # not the dynamically linked busybox
fi
if [ "${1:-}" = kernels ]; then
	need flex flex
	need bison bison
	need bc bc
	need xz-utils xz
	need libelf-dev /usr/include/libelf.h
	need debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
fi
test -n "$missing" || exit 0

if ! command -v apt-get >/dev/null; then
	echo "the tests need the programs of these Debian packages, and there is no apt-get:$missing; install them" >&2
	exit 1
fi
echo "installing the Debian packages that the tests need:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q </dev/null >/dev/null
# shellcheck disable=SC2086 # one word per package
apt-get install -q -y --no-install-recommends $missing </dev/null >/dev/null
