#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# cluster.sh COMMAND...: runs a Kubernetes cluster of two nodes on this machine, for as
# long as COMMAND runs. Each machine is a network namespace, a node also a mount
# namespace; all are in one PID namespace, whose end also ends every process,
# mount and network namespace. Logs stay in .cache/e2e/run. E2E_CLUSTER is the kind of
# cluster:
#
#     bridge           the default: the cluster network is a bridge on each node, with a
#                      route of everybody to it; Multus is a plugin
#     multus-thick     the same, but Multus is a daemon
#     flannel-vxlan    Flannel makes the cluster network, between the nodes by VXLAN
#     flannel-host-gw  Flannel, between the nodes by routes
#
# They have the same machines:
#
#     cp 10.9.0.2   client 10.9.0.3
#          |             |
#     -----+-- outside --+---------------------------- 10.9.0.0/24  fd00:9::/64
#                        | .1
#                     router
#                        | .1 in each
#     --+----------------+--+--------------------+-- lan6 10.6.0.0/16  fd00:6::/64
#       | ens192 10.6.0.11  | ens192 10.6.0.12   | 10.6.0.200
#     node1               node2                neighbour
#       | ens224, ens256    | ens224, ens256     |
#     --+-------------------+--------------------+-- lan7, lan8: the same without
#                                                    addresses of the nodes
#
# COMMAND runs on cp, the machine of the control plane; the other machines are in
# /run/netns, and `nsenter -t $(cat $E2E_STATE/node1/pid) -n -m` leads into a node.
# `cluster.sh _off 1` cuts node1's power, and `cluster.sh _on 1` boots it again.
set -euo pipefail
self=$(readlink -f "$0")
here=$(dirname "$self")
root=$(readlink -f "$here/../..")
nodes="1 2"
export E2E_ROOT=$root
export E2E_CLUSTER=${E2E_CLUSTER:-bridge}
export E2E_STATE=$root/.cache/e2e/run/$E2E_CLUSTER
export PATH=$root/.cache/e2e/bin:$PATH
api=https://10.9.0.2:6443
services=10.96.0.0/16,fd00:10:96::/112
pods=10.244.0.0/16,fd00:10:244::/48

main() {
	case $E2E_CLUSTER in
	bridge | multus-thick | flannel-vxlan | flannel-host-gw) ;;
	*) say "there is no kind of cluster $E2E_CLUSTER" && exit 2 ;;
	esac
	rm -rf "$E2E_STATE"
	mkdir -p "$E2E_STATE"
	export E2E_CGROUP=multihome-e2e.$$
	# With pdeathsig nothing outlives this script, however it ends.
	setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc "$self" _machines "$@" <&0 &
	cluster=$!
	trap 'kill -KILL $cluster 2>/dev/null || :' INT TERM HUP
	status=0
	wait $cluster || status=$?
	until_ok 30 no_cgroups # killed processes leave their cgroups with a delay
	exit $status
}

no_cgroups() {
	find /sys/fs/cgroup -depth -type d -path "*/$E2E_CGROUP*" -exec rmdir {} +
	test -z "$(find /sys/fs/cgroup -type d -path "*/$E2E_CGROUP*")"
}

say() { echo "e2e: $*"; }

# until_ok SECONDS COMMAND...: repeats the command until it succeeds.
until_ok() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		test $SECONDS -lt $end || { say "still failing: $*"; return 1; }
		sleep 0.2
	done
}

# forever NAME COMMAND...: runs the command again whenever it ends; files hold its PID and log.
forever() {
	local name=$1
	shift
	while :; do
		"$@" >>"$name.log" 2>&1 &
		echo $! >"$name.pid.part"
		mv "$name.pid.part" "$name.pid" # never an empty file
		wait $! || :
		sleep 0.5
	done
}

# wire MACHINE LINK SWITCH [ADDRESS...]: makes a NIC in one of the router's switches. It has the
# same MAC each time.
wire() {
	local machine=$1 link=$2 switch=$3 port=$1.${2#ens} mac
	shift 3
	mac=02$(md5sum <<<"$port" | sed 's/../:&/g' | cut -c -15)
	ip -n router link add "$port" type veth peer name "$link" netns "$machine" address "$mac"
	ip -n router link set "$port" master "$switch" up
	ip -n "$machine" link set "$link" up
	for address; do address "$machine" "$address" "$link"; done
}

address() { # address MACHINE ADDRESS LINK: to be used at once
	local nodad=
	case $2 in *:*) nodad=nodad ;; esac
	ip -n "$1" addr add "$2" dev "$3" $nodad
}

machine() {
	ip netns add "$1"
	ip -n "$1" link set lo up
}

leads_to_router() { # leads_to_router MACHINE NET
	ip -n "$1" route add default via "10.$2.0.1"
	ip -n "$1" route add default via "fd00:$2::1"
}

network() {
	machine router
	for switch in lan6 lan7 lan8 outside9; do
		local net=${switch: -1}
		ip -n router link add $switch type bridge
		ip -n router link set $switch type bridge stp_state 0
		ip -n router link set $switch up
		address router "10.$net.0.1/$([ $net = 9 ] && echo 24 || echo 16)" $switch
		address router "fd00:$net::1/64" $switch
	done
	nsenter --net=/run/netns/router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
		net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
	machine cp
	wire cp eth0 outside9 10.9.0.2/24 fd00:9::2/64
	leads_to_router cp 9
	machine client
	wire client eth0 outside9 10.9.0.3/24 fd00:9::3/64
	leads_to_router client 9
	machine neighbour
	for net in 6 7 8; do wire neighbour eth$net lan$net 10.$net.0.200/16 fd00:$net::200/64; done
	for n in $nodes; do plug $n; done
	routes_to_pods router
}

# plug makes a node's NICs.
plug() {
	machine "node$1"
	wire "node$1" ens192 lan6 "10.6.0.1$1/16" "fd00:6::1$1/64"
	wire "node$1" ens224 lan7
	wire "node$1" ens256 lan8
	leads_to_router "node$1" 6
	routes_to_pods "node$1"
}

# routes_to_pods MACHINE: for a cluster network without software of its own: each node has
# a range, and everybody a route to it. Half of it is for the bridge of that network, half
# for other forms of it.
routes_to_pods() {
	case $E2E_CLUSTER in bridge | multus-thick) ;; *) return ;; esac
	for n in $nodes; do
		test "$1" != "node$n" || continue
		ip -n "$1" route add "10.244.$n.0/24" via "10.6.0.1$n"
		ip -n "$1" route add "fd00:10:244:$n::/64" via "fd00:6::1$n"
	done
}

kubeconfig() { # kubeconfig NAME: in whose name its token speaks, tokens.csv says
	cat >"$1.kubeconfig" <<EOF_KUBECONFIG
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "$api", insecure-skip-tls-verify: true}}]
users: [{name: e2e, user: {token: $1}}]
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}]
current-context: e2e
EOF_KUBECONFIG
}

identities() {
	cat >tokens.csv <<EOF_TOKENS
admin,admin,1,"system:masters"
controller-manager,system:kube-controller-manager,2
scheduler,system:kube-scheduler,3
proxy,system:kube-proxy,4
node1,system:node:node1,11,"system:nodes"
node2,system:node:node2,12,"system:nodes"
EOF_TOKENS
	for name in $(cut -d , -f 1 tokens.csv); do kubeconfig "$name"; done
	openssl genrsa -out serviceaccounts.key 2048 2>/dev/null
}

# machines is the first process of the cluster.
machines() {
	mount --make-rprivate /
	mount -t tmpfs -o mode=755 run /run
	mkdir -p /run/netns /run/lock
	cd "$E2E_STATE"
	network
	identities
	for n in $nodes; do boot $n; done
	nsenter --net=/run/netns/cp "$self" _control_plane "$@"
}

# boot NUMBER: a node starts, with what its disk has from before.
boot() {
	mkdir -p "$E2E_STATE/node$1" "/run/disks/node$1"
	nsenter --net="/run/netns/node$1" setsid unshare --mount "$self" _node "$1" >>"$E2E_STATE/node$1/node.log" 2>&1 &
}

# off NUMBER: what a power cut leaves of a node is its disk; cables and switches aren't the node's.
off() {
	local mounts left link
	mounts=$(readlink "/proc/$(cat "$E2E_STATE/node$1/pid")/ns/mnt")
	while left=$(processes_of "node$1" "$mounts") && [ -n "$left" ]; do
		xargs kill -KILL <<<"$left" 2>/dev/null || : # some may have ended
		sleep 0.1
	done
	for link in 192 224 256; do ip -n router link del "node$1.$link"; done
	ip netns del "node$1"
	find /sys/fs/cgroup -depth -type d -path "*/$E2E_CGROUP/node$1*" -exec rmdir {} +
}

# processes_of NODE MOUNTS: prints those in the node's mount namespace, its daemons, and those in its cgroups.
processes_of() {
	local p
	for p in /proc/[0-9]*; do
		test "$(readlink "$p/ns/mnt")" != "$2" || echo "${p#/proc/}"
	done
	find /sys/fs/cgroup -path "*/$E2E_CGROUP/$1/*" -name cgroup.procs -exec cat {} +
}

on() { # on NUMBER: a node that is off boots
	plug "$1"
	boot "$1"
}

control_plane() {
	cd "$E2E_STATE"
	mkdir cp
	forever cp/etcd etcd_on_disk &
	forever cp/apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --service-cluster-ip-range=$services \
		--cert-dir=cp --token-auth-file=tokens.csv --authorization-mode=Node,RBAC --advertise-address=10.9.0.2 \
		--service-account-issuer=https://kubernetes.default.svc --service-account-key-file=serviceaccounts.key \
		--service-account-signing-key-file=serviceaccounts.key --allow-privileged=true --profiling=false &
	until_ok 120 kubectl --kubeconfig=admin.kubeconfig get --raw /readyz
	local ranges=
	case $E2E_CLUSTER in flannel-*) ranges="--allocate-node-cidrs --cluster-cidr=$pods" ;; esac
	# shellcheck disable=SC2086 # some words, or none
	forever cp/controller-manager kube-controller-manager --kubeconfig=controller-manager.kubeconfig --leader-elect=false \
		--use-service-account-credentials --service-account-private-key-file=serviceaccounts.key \
		--root-ca-file=cp/apiserver.crt --profiling=false $ranges &
	forever cp/scheduler kube-scheduler --kubeconfig=scheduler.kubeconfig --leader-elect=false --profiling=false &
	export KUBECONFIG=$E2E_STATE/admin.kubeconfig
	kubectl apply -f "$here/networkattachmentdefinition.yaml" >cp/manifests.log
	until_ok 300 all_ready
	say "nodes ready after $SECONDS s"
	"$@"
}

# etcd_on_disk runs etcd, with the data of /run/etcd.restored if somebody put it there.
etcd_on_disk() {
	if [ -d /run/etcd.restored ]; then
		rm -rf /run/etcd
		mv /run/etcd.restored /run/etcd
	fi
	exec etcd --data-dir /run/etcd --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 \
		--advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
}

all_ready() {
	test "$(kubectl get nodes --no-headers | grep -cw Ready)" = "$(wc -w <<<"$nodes")" &&
		kubectl get serviceaccount default
}

node() {
	local n=$1
	echo $$ >"$E2E_STATE/node$n/pid"
	cd "$E2E_STATE/node$n"
	mounts "$n"
	cp "$root"/bin/cni/* "$root/.cache/e2e/bin/"multus{,-shim} /opt/cni/bin
	"$root/bin/multihome" install --to /opt/cni/bin
	sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
		net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
	configurations "$n"
	forever containerd containerd -c "$PWD/containerd.toml" &
	until_ok 60 ctr version
	ctr -n k8s.io images import "$root/.cache/e2e/image.tar"
	until_ok 120 kubectl --kubeconfig=../admin.kubeconfig get --raw /readyz
	forever proxy kube-proxy --config=proxy.yaml &
	cluster_network "$n" &
	forever kubelet kubelet --config=kubelet.yaml --kubeconfig=../node$n.kubeconfig --hostname-override=node$n \
		--node-ip=10.6.0.1$n,fd00:6::1$n
}

# mounts gives a node its own /run, what its disk has of /var/lib and /var/log and of changes
# to /etc and /opt, its view of /sys, and its cgroups.
mounts() {
	local n=$1 d f group disk=/run/disks/node$1
	mount --make-rprivate /
	mkdir -p $disk/state $disk/var/{lib,log} $disk/{etc,opt}/{upper,work}
	mount --bind "$E2E_STATE" $disk/state
	for d in /etc /opt; do
		mount -t overlay -o "lowerdir=$d,upperdir=$disk$d/upper,workdir=$disk$d/work" node$n $d
	done
	for d in /var/lib /var/log; do mount --bind $disk$d $d; done
	mount --move $disk/state "$E2E_STATE" # which may be below one of them
	mount -t tmpfs -o mode=755 node$n /run
	mkdir -p /run/netns /run/lock /run/cgroup /run/sysctl
	cd "$E2E_STATE/node$n"
	mkdir -p /opt/cni/bin /var/lib/cni/bin
	mount --rbind /sys/fs/cgroup /run/cgroup
	mount -t sysfs sys /sys
	mount --rbind /run/cgroup /sys/fs/cgroup
	umount -l /run/cgroup
	# What the kubelet writes at its start is the whole machine's: let it write to copies.
	for f in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
		cat /proc/sys/$f >/run/sysctl/${f//\//.}
		mount --bind /run/sysctl/${f//\//.} /proc/sys/$f
	done
	mount --make-rshared /
	group=$E2E_CGROUP/node$n
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		mkdir -p /sys/fs/cgroup/$group
		for f in /sys/fs/cgroup /sys/fs/cgroup/$E2E_CGROUP; do
			sed 's/\([a-z]\+\)/+\1/g' $f/cgroup.controllers >$f/cgroup.subtree_control
		done
		return
	fi
	for f in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do mkdir -p /sys/fs/cgroup/$f/$group; done
	for group in $E2E_CGROUP $E2E_CGROUP/node$n; do
		for f in cpus mems; do cat /sys/fs/cgroup/cpuset/cpuset.$f >/sys/fs/cgroup/cpuset/$group/cpuset.$f; done
	done
}

configurations() {
	local n=$1
	cat >containerd.toml <<EOF_CONTAINERD
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/app:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dirs = ["/opt/cni/bin", "/var/lib/cni/bin"]
    conf_dir = "$PWD/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
EOF_CONTAINERD
	cat >kubelet.yaml <<EOF_KUBELET
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$E2E_CGROUP/node$n
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
resolvConf: ""
enforceNodeAllocatable: []
evictionHard: {memory.available: 50Mi, nodefs.available: 0%, imagefs.available: 0%, nodefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
EOF_KUBELET
	# Liberal, as an overlay pod on the other node answers an underlay pod past the
	# node that the question came by, which by default drops the rest as invalid.
	cat >proxy.yaml <<EOF_PROXY
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: $pods
hostnameOverride: node$n
clientConnection: {kubeconfig: ../proxy.kubeconfig}
conntrack: {tcpBeLiberal: true, maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOF_PROXY
	mkdir -p net.d
}

# cluster_network starts the node's part of the cluster network. Once cluster.json has the
# plugins that make eth0, Multus is configured, and the node becomes ready.
cluster_network() {
	case $E2E_CLUSTER in
	flannel-*) with_flannel "$1" ;;
	*) bridge_conf '"bridge": "cni0", "isGateway": true' "$(ipam "10.244.$1.0/25" "fd00:10:244:$1::/80" 0.0.0.0/0 ::/0)" ;;
	esac
	case $E2E_CLUSTER in
	multus-thick) with_multus_daemon "$1" ;;
	*) multus_conf >net.d/00-multus.conf ;;
	esac
}

bridge_conf() { # bridge_conf KEYS IPAM: writes the plugins, which are one bridge
	cat >cluster.json <<EOF_BRIDGE
{"cniVersion": "1.0.0", "name": "cluster", "plugins": [
  {"type": "bridge", $1, "hairpinMode": true, "ipam": {"type": "host-local"$2}}]}
EOF_BRIDGE
}

ipam() { # ipam RANGE4 RANGE6 DESTINATION4 DESTINATION6: prints keys of an IPAM
	echo ", \"ranges\": [[{\"subnet\": \"$1\"}], [{\"subnet\": \"$2\"}]], \"routes\": [{\"dst\": \"$3\"}, {\"dst\": \"$4\"}]"
}

# with_flannel configures the bridge as Flannel's CNI plugin does, from the same file: that
# plugin can't be had as a Go module.
with_flannel() {
	cat >flannel.json <<EOF_FLANNEL
{"Network": "${pods%,*}", "IPv6Network": "${pods#*,}", "EnableIPv6": true, "Backend": {"Type": "${E2E_CLUSTER#flannel-}"}}
EOF_FLANNEL
	NODE_NAME=node$1 forever flannel flannel --kube-subnet-mgr --kubeconfig-file=../admin.kubeconfig \
		--net-config-path=flannel.json --iface=ens192 --ip-masq &
	until_ok 120 test -s /run/flannel/subnet.env
	. /run/flannel/subnet.env
	bridge_conf "\"bridge\": \"cni0\", \"isGateway\": true, \"isDefaultGateway\": true, \"mtu\": $FLANNEL_MTU" \
		"$(ipam "${FLANNEL_SUBNET/.1\//.0/}" "${FLANNEL_IPV6_SUBNET/::1\//::/}" "$FLANNEL_NETWORK" "$FLANNEL_IPV6_NETWORK")"
}

# multus_conf prints the configuration of Multus as a plugin.
multus_conf() {
	cat <<EOF_MULTUS
{"cniVersion": "1.0.0", "name": "multus", "type": "multus", "kubeconfig": "$E2E_STATE/admin.kubeconfig",
 "binDir": "/opt/cni/bin", "logFile": "$PWD/multus.log", "logLevel": "error", "logToStderr": false,
 "capabilities": {"ips": true},
 "delegates": [$(cat cluster.json)]}
EOF_MULTUS
}

# with_multus_daemon runs Multus' daemon, which configures its shim by itself; with a
# configuration of ours it would end at once. It finds the API as in a pod.
with_multus_daemon() {
	local account=/run/secrets/kubernetes.io/serviceaccount
	mkdir -p $account
	echo -n admin >$account/token
	cp ../cp/apiserver.crt $account/ca.crt
	mkdir -p cluster.d
	cp cluster.json cluster.d/10-cluster.conflist
	cat >multus-daemon.json <<EOF_DAEMON
{"cniVersion": "1.0.0", "binDir": "/opt/cni/bin", "capabilities": {"ips": true}, "socketDir": "/run/multus",
 "cniConfigDir": "$PWD/net.d", "multusAutoconfigDir": "$PWD/cluster.d", "logFile": "$PWD/multus.log", "logLevel": "error"}
EOF_DAEMON
	KUBERNETES_SERVICE_HOST=10.9.0.2 KUBERNETES_SERVICE_PORT=6443 MULTUS_NODE_NAME=node$1 \
		forever multus-daemon multus-daemon -config multus-daemon.json &
}

case ${1:-} in
_machines | _control_plane | _node | _off | _on)
	role=${1#_}
	shift
	"$role" "$@"
	;;
"") sed -n '4,34p' "$0" && exit 2 ;;
*) main "$@" ;;
esac
