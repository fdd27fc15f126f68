#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# generate.sh: makes what is derived from the Go types of the API, the
# CustomResourceDefinitions in deploy/crds and the deep copies; and the copies of deploy/crds
# and deploy/admission in the chart and the kustomization, which read nothing outside of them.
# generate.sh -check: fails if what is there isn't what it would make.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd controlplane/tools && go build -o "$work/" tool)
copies() { # copies MODULE PACKAGE DIRECTORY: generates the deep copies of a package, below a directory
	(cd "$1" && "$work/controller-gen" object "paths=./$2" output:object:dir="$work/copies")
	{
		echo "// SPDX-License-Identifier: Apache-2.0"
		echo
		cat "$work/copies/zz_generated.deepcopy.go"
	} >"$3/$2/zz_generated.deepcopy.go"
}
into() { # into DIRECTORY: generates there, with the paths of the project below it
	mkdir -p "$1/deploy/crds" "$1/deploy/helm/multihome/files" "$1/deploy/kustomize/controlplane"
	for package in pkg/netconf pkg/ipam; do
		mkdir -p "$1/$package"
		copies . "$package" "$1"
	done
	for package in api/v2beta1 api/v1alpha1 api/staticmacvlan api/nad; do
		mkdir -p "$1/controlplane/$package"
		copies controlplane "$package" "$1/controlplane"
	done
	(cd controlplane && "$work/controller-gen" crd paths=./api/v2beta1 paths=./api/v1alpha1 paths=./api/staticmacvlan output:crd:dir="$1/deploy/crds")
	for to in helm/multihome/files kustomize/controlplane; do
		cat "$1"/deploy/crds/*.yaml >"$1/deploy/$to/crds.yaml"
		cp deploy/admission/policies.yaml deploy/admission/webhook.yaml "$1/deploy/$to/"
	done
	cp deploy/monitoring/rules.yaml "$1/deploy/helm/multihome/files/"
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
