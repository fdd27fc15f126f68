package main

import (
	_ "github.com/multihome/multihome/controlplane/api/v2beta1"
	_ "k8s.io/api/networking/v1"
	_ "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	_ "k8s.io/client-go/rest"
	_ "sigs.k8s.io/controller-runtime"
)

func main() {}
