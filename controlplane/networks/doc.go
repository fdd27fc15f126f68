// SPDX-License-Identifier: Apache-2.0

// Package networks keeps the NetworkAttachmentDefinition of each SpiderMultusConfig as the
// config says. One reconciliation is about one name of a NetworkAttachmentDefinition: what
// is there, and which configs want it.
//
//	observed := ...            // the object of that name, and the configs
//	decision := Decide(observed)
//	decision.Write             // create, update, delete, or nothing
//	decision.Verdicts          // what each config's conditions say
//
// Decide is pure. The reconciler decides by its cache first. If something is to be written,
// it reads again from the API server and decides anew; each write carries what it was
// decided on: an update and a deletion the resourceVersion, a creation that there was
// nothing. So two controllers, old caches and a crash between two writes lead to the same
// end.
//
// Beware: writes are patches of our own fields. Server-side apply, which would do the same,
// can't say "only if it isn't there yet", and would overwrite a NetworkAttachmentDefinition
// that somebody made in the meantime. managedFields says which annotations are ours.
package networks
