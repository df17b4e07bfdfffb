"""Generated protobuf and gRPC code (`make proto`); only `nodes.wire` and `nodes.rpc_*` import it."""
