// Package metadatapb is metadata.proto, generated; only package metadata uses it.
package metadatapb

// protoc is Debian's protobuf-compiler (make setup); its plugin has the version that go.mod says.
//go:generate go build -o protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate protoc --plugin=./protoc-gen-go --go_out=. --go_opt=paths=source_relative metadata.proto
//go:generate rm protoc-gen-go
