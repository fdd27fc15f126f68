#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# generate.sh: makes what is derived from the Go types of the API: the
# CustomResourceDefinitions in deploy/crds and the deep copies.
# generate.sh -check: fails if what is there isn't what the types say.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd controlplane/tools && go build -o "$work/" tool)
into() { # into DIRECTORY: generates there, with the paths of the project below it
	mkdir -p "$1/pkg/netconf" "$1/controlplane/api/v2beta1" "$1/controlplane/api/nad" "$1/deploy/crds"
	(cd pkg/netconf && "$work/controller-gen" object paths=. output:object:dir="$1/pkg/netconf")
	for api in v2beta1 nad; do
		(cd controlplane && "$work/controller-gen" object paths=./api/$api output:object:dir="$1/controlplane/api/$api")
	done
	(cd controlplane && "$work/controller-gen" crd paths=./api/v2beta1 output:crd:dir="$1/deploy/crds")
}
if [ "${1-}" = -check ]; then
	into "$work/new"
	status=0
	for file in $(cd "$work/new" && find . -type f); do
		diff -u "$file" "$work/new/$file" || status=1
	done
	for file in deploy/crds/*_*.yaml; do
		[ -e "$work/new/$file" ] || { echo "$file: no type makes it" >&2; status=1; }
	done
	[ "$status" = 0 ] || echo "not generated anew, run make generate" >&2
	exit "$status"
fi
into "$PWD"
