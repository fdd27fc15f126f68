// SPDX-License-Identifier: Apache-2.0

// Package admission checks objects of this project, and only these, before the API server
// stores them. It is the last of three: the definitions in deploy/crds and the policies in
// deploy/admission are checked by the API server itself; the webhook of this package tells
// what they can't see. Nothing depends on it: while it is down, objects are taken, and the
// condition Ready says the same.
//
//	err := admission.Add(mgr, admission.Options{Namespace: "kube-system", Service: "multihome-webhook"})
//
// Its certificate is in the Secret multihome-webhook. The leader makes and renews it, and
// keeps the caBundle of the ValidatingWebhookConfiguration multihome; every replica serves
// with what the Secret holds. The controller's role needs, for these names alone: secrets
// get, list, watch, update and delete, in its namespace; validatingwebhookconfigurations
// get, list, watch and patch. And secrets create, in its namespace: a rule on create can't
// have names.
package admission
