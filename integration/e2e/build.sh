#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the programs of the cluster of `make e2e` into .cache/e2e/bin, each
# by its own module file and only if that has changed, and the image that its pods
# run. It downloads only Go modules. The first time it takes 10 minutes on two
# processors, nearly all of it for Kubernetes. With an argument it builds only a part:
# control-plane, what hack/with-apiserver runs; workloads, that with --workloads;
# demo-cluster, what `make demo-cluster` runs.
set -euo pipefail
cd "$(dirname "$0")"
out=$(readlink -f ../..)/.cache/e2e
mkdir -p "$out/bin"
exec {lock}<"$out"
flock "$lock" # two that start at once don't build twice
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"

# build NAME MODULE TAGS VARIABLES PACKAGE...: builds programs of a module; the package
# "tool" stands for all that its go.mod names. NAME.built says what they were built from.
build() {
	local name=$1 module=$2 tags=$3 flags="-s -w $4" key
	shift 4
	key=$(cat "$module"/go.{mod,sum} build.sh | sha256sum)
	test "$(cat "$out/$name.built" 2>/dev/null)" != "$key" || return 0
	echo "e2e: building $name, which takes minutes the first time"
	SECONDS=0
	(cd "$module" && go build -tags "$tags" -ldflags "$flags" -o "$out/bin/" "$@")
	echo "$key" >"$out/$name.built"
	echo "e2e: built $name in $SECONDS s"
}

# version MODULE PATH: prints the version of a module in go.mod.
version() { (cd "$1" && go list -m -f '{{.Version}}' "$2"); }

# Kubernetes does not start without a version; its own build sets it in the same way.
v=$(version kubernetes k8s.io/kubernetes)
set_version="-X k8s.io/client-go/pkg/version.gitVersion=$v -X k8s.io/component-base/version.gitVersion=$v"
build control-plane kubernetes "" "$set_version" \
	k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kubectl}
build etcd etcd "" "" tool
test ! -e "$out/bin/server" || mv "$out/bin/server" "$out/bin/etcd" # go names it after its directory
test "${1:-}" != control-plane || exit 0
build scheduler kubernetes "" "$set_version" k8s.io/kubernetes/cmd/kube-scheduler
test "${1:-}" != workloads || exit 0
build proxy kubernetes "" "$set_version" k8s.io/kubernetes/cmd/kube-proxy
build multus multus "" "" tool
test "${1:-}" != demo-cluster || exit 0
build kubernetes kubernetes "" "$set_version" tool # builds only what those above are not
containerd=github.com/containerd/containerd/v2
build containerd containerd no_btrfs,no_zfs,no_devmapper,no_aufs "-X $containerd/version.Version=$(version containerd $containerd)" tool
build helm helm "" "" tool
CGO_ENABLED=1 build flannel flannel "" "" tool # its udp backend is written in C

# Three images, in the form of `docker save`: one for the tests' pods, whose only
# file is the program of integration/e2e/app; Debian's busybox, and that program as a server,
# with the image names that examples/ uses.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# image NAME DIRECTORY ENTRYPOINT: prints manifest.json's entry for an image, whose
# files are in the directory.
image() {
	tar -C "$work/$2" --owner=0 --group=0 --mtime=@0 --sort=name -cf "$work/$2.tar" .
	layer=$(sha256sum "$work/$2.tar" | cut -d ' ' -f 1)
	cat >"$work/$2.json" <<EOF_CONFIG
{"architecture": "$(go env GOARCH)", "os": "linux", "config": {"Entrypoint": $3},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
EOF_CONFIG
	echo "{\"Config\": \"$2.json\", \"RepoTags\": [\"$1\"], \"Layers\": [\"$2.tar\"]}"
}

go build -ldflags "-s -w" -o "$work/app/app" ./app
mkdir "$work/web"
cp "$work/app/app" "$work/web"
mkdir -p "$work"/busybox/{bin,tmp}
cp /bin/busybox "$work/busybox/bin"
for applet in sh hostname httpd sleep; do ln -s busybox "$work/busybox/bin/$applet"; done
images_of() { sed -n 's/^ *image: *//p' "$@" | sort -u; }
example=$(images_of ../../examples/*.yaml ../../examples/static-macvlan/*.yml)
server=$(images_of ../../examples/fixed-addresses/*.yaml)
echo "[$(image localhost/app:1 app '["/app"]'), $(image "$example" busybox null), $(image "$server" web '["/app", "serve"]')]" >"$work/manifest.json"
tar -C "$work" -cf "$out/image.tar" manifest.json {app,busybox,web}.{json,tar}

go test -c -tags e2e -o "$out/bin/e2e.test" .
