#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds what the cluster of `make e2e` is made of into .cache/e2e/bin, each part
# by its own module file and only when that changed, and the image that its pods
# run. Nothing is pulled but Go modules. The first time it takes 10 minutes on two
# processors, nearly all of it for Kubernetes.
set -euo pipefail
cd "$(dirname "$0")"
out=$(readlink -f ../..)/.cache/e2e
mkdir -p "$out/bin"
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"

# build MODULE TAGS VARIABLES: the tools that its go.mod names.
build() {
	local module=$1 tags=$2 flags="-s -w $3" key
	key=$(cat "$module"/go.{mod,sum} build.sh | sha256sum)
	test "$(cat "$out/$module.built" 2>/dev/null)" != "$key" || return 0
	echo "e2e: building $module"
	(cd "$module" && go build -tags "$tags" -ldflags "$flags" -o "$out/bin/" tool)
	echo "$key" >"$out/$module.built"
}

# version MODULE PATH: the version of a module that go.mod asks for.
version() { (cd "$1" && go list -m -f '{{.Version}}' "$2"); }

# Kubernetes does not start without a version, which its own build sets like this.
v=$(version kubernetes k8s.io/kubernetes)
set_version="-X k8s.io/client-go/pkg/version.gitVersion=$v -X k8s.io/component-base/version.gitVersion=$v"
build kubernetes "" "$set_version"
build etcd "" ""
test ! -e "$out/bin/server" || mv "$out/bin/server" "$out/bin/etcd" # go names it after its directory
containerd=github.com/containerd/containerd/v2
build containerd no_btrfs,no_zfs,no_devmapper,no_aufs "-X $containerd/version.Version=$(version containerd $containerd)"
build multus "" ""

# One image for everything, in the form of `docker save`: its only file is the
# program of integration/e2e/app.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -ldflags "-s -w" -o "$work/app" ./app
tar -C "$work" --owner=0 --group=0 --mtime=@0 -cf "$work/layer.tar" app
layer=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
cat >"$work/config.json" <<EOF_CONFIG
{"architecture": "$(go env GOARCH)", "os": "linux", "config": {"Entrypoint": ["/app"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
EOF_CONFIG
echo '[{"Config": "config.json", "RepoTags": ["localhost/app:1"], "Layers": ["layer.tar"]}]' >"$work/manifest.json"
tar -C "$work" -cf "$out/image.tar" manifest.json config.json layer.tar

go test -c -tags e2e -o "$out/bin/e2e.test" .
