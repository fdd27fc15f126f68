// SPDX-License-Identifier: Apache-2.0

// Package staticpods keeps the StaticPods: for each pod with addresses of VLANSubnets a record
// with its name, by its claim. People read the records; nothing here or elsewhere decides by
// them.
//
// A record goes with its claim. One of a former pod of the name is replaced by a new one, also
// if nobody heard that the former pod was deleted.
package staticpods
