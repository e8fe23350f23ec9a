// Package validate holds the rules that several kinds share: metadata, names, labels, quantities. Every
// function returns all errors that it finds, in Kubernetes' words and under the given path.
package validate
