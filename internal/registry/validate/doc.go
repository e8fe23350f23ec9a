// Package validate holds the rules that several kinds share: metadata, names, labels, quantities. Every
// function answers with all the faults it finds, in Kubernetes' words and under the path it is given.
package validate
