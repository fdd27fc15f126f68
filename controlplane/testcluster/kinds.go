// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"errors"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/identities"
)

// KubeVirt makes the kinds of KubeVirt, as far as multihome reads them, until the end of the test.
func (b *Bench) KubeVirt() {
	b.Helper()
	for _, kind := range []string{identities.VirtualMachine, identities.Instance} {
		b.Kind(schema.GroupVersionKind{Group: identities.KubeVirt, Version: "v1", Kind: kind}, apiextensionsv1.JSONSchemaProps{Type: "object"}, nil)
	}
}

// Kind makes a namespaced kind of another project, until the end of the test.
func (b *Bench) Kind(of schema.GroupVersionKind, object apiextensionsv1.JSONSchemaProps, subresources *apiextensionsv1.CustomResourceSubresources) {
	b.Helper()
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		b.Fatal(err)
	}
	c, err := client.New(Config(b), client.Options{Scheme: scheme})
	if err != nil {
		b.Fatal(err)
	}
	one := strings.ToLower(of.Kind)
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: one + "s." + of.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: of.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: of.Kind, ListKind: of.Kind + "List", Singular: one, Plural: one + "s"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: of.Version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &object}, Subresources: subresources}},
		},
	}
	if err := c.Create(b.Context(), crd); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Delete(context.Background(), crd); err != nil {
			b.Error(err)
		}
	})
	b.Eventually(of.Kind, func() error {
		if err := c.Get(b.Context(), client.ObjectKeyFromObject(crd), crd); err != nil {
			return err
		}
		for _, x := range crd.Status.Conditions {
			if x.Type == apiextensionsv1.Established && x.Status == apiextensionsv1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it isn't established")
	})
}
