"""Calls one unary rpc by what the server's reflection says of it, as grpcurl does.

Usage: python call.py ADDRESS list
       python call.py ADDRESS package.Service/Method JSON
Prints the answer as JSON. A refusal goes to standard error as "CODE: message", exit code 1.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def main():
    address, method = sys.argv[1], sys.argv[2]
    channel = grpc.insecure_channel(address)
    database = ProtoReflectionDescriptorDatabase(channel)
    if method == "list":
        print(json.dumps(sorted(database.get_services())))
        return 0
    service_name, method_name = method.split("/")
    pool = descriptor_pool.DescriptorPool(database)
    descriptor = pool.FindServiceByName(service_name).FindMethodByName(method_name)
    request_class = message_factory.GetMessageClass(descriptor.input_type)
    answer_class = message_factory.GetMessageClass(descriptor.output_type)
    request = json_format.Parse(sys.argv[3], request_class())
    call = channel.unary_unary(
        f"/{service_name}/{method_name}",
        request_serializer=request_class.SerializeToString,
        response_deserializer=answer_class.FromString,
    )
    try:
        answer = call(request, timeout=20)
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    print(json_format.MessageToJson(answer, indent=2))
    return 0


sys.exit(main())
