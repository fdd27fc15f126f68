#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the kernels of `make test-kernels` as user-mode Linux, into .cache/kernels, from
# Debian's source packages: the oldest on which the plugins are promised to work, and the newest
# of which Debian has one. It prints NAME=FILE for each; no FILE stands for the kernel of
# Debian's package user-mode-linux. A kernel that is there is not built again; the newest is
# looked for each time. It needs the packages of `hack/packages.sh kernels`, 4 GB in .cache, and
# some ten minutes for each kernel.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/.cache/kernels
mkdir -p "$cache"

# debian SUITE COMMAND...: runs a command of apt's with that suite alone. The key of Debian
# signs the suite.
debian() {
	local suite=$1 state=$cache/apt/$1
	shift
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	: >"$state/status"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$state/sources"
	"$1" -q -o Dir::Etc::SourceList="$state/sources" -o Dir::Etc::SourceParts=- -o Dir::State="$state" \
		-o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" -o APT::Sandbox::User=root "${@:2}" </dev/null
}

# build SUITE PACKAGE: builds the kernel of a source package, and prints NAME=FILE.
build() {
	local suite=$1 package=$2 name=${2#linux-source-} work=$cache/work
	local linux=$cache/linux-$name
	if [ ! -e "$linux" ]; then
		echo "kernels: building Linux $name of Debian's suite $suite" >&2
		rm -rf "$work"
		mkdir -p "$work"
		(cd "$work" && debian "$suite" apt-get download "$package" >&2)
		dpkg-deb -x "$work/$package"_*.deb "$work"
		tar -C "$work" -xf "$work/usr/src/$package.tar.xz"
		(
			cd "$work/$package"
			make ARCH=um defconfig
			scripts/kconfig/merge_config.sh -m -O . .config ../../../../hack/kernels.config
			make ARCH=um olddefconfig
			make ARCH=um -j"$(nproc)" linux
		) >"$cache/$name.log" 2>&1 || { tail -n 30 "$cache/$name.log" >&2; exit 1; }
		strip -o "$linux.part" "$work/$package/linux"
		mv "$linux.part" "$linux"
		rm -rf "$work"
	fi
	echo "$name=$linux"
}

# newest prints the newest linux-source-* of sid.
newest() {
	debian sid apt-cache search --names-only '^linux-source-[0-9.]+$' | cut -d ' ' -f 1 | sort -V | tail -n 1
}

for suite in bullseye sid; do
	debian "$suite" apt-get update >&2
done
build bullseye linux-source-5.10
echo debian=
build sid "$(newest)"
