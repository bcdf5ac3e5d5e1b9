module headwater-example

go 1.18

// Any later version does too: go get github.com/nats-io/nats.go@latest
require github.com/nats-io/nats.go v1.22.1
