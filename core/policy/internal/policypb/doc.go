// Package policypb is policy.proto, generated; only package protocol uses it.
package policypb

// protoc is Debian's protobuf-compiler (make setup); its plugins have the versions that go.mod says.
//go:generate go build -o protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate go build -o protoc-gen-go-grpc google.golang.org/grpc/cmd/protoc-gen-go-grpc
//go:generate protoc --plugin=./protoc-gen-go --plugin=./protoc-gen-go-grpc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative policy.proto
//go:generate rm protoc-gen-go protoc-gen-go-grpc
