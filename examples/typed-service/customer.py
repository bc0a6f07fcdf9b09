"""Calls the order desk with code that protoc generated, and nothing of broker: python customer.py HOST:PORT."""

from __future__ import annotations

import sys

import grpc
from example import orders_pb2, orders_pb2_grpc

types = orders_pb2.orders_types


def main(at: str) -> None:
    with grpc.insecure_channel(at) as channel:
        desk = orders_pb2_grpc.ordersStub(channel)

        lamp, chairs = types.Item(name="lamp"), types.Item(name="chair", count=2)
        stock = desk.restock(types.restock_request(deliveries=item) for item in (lamp, lamp, lamp)).result
        print(f"There are {stock['lamp']} lamps.")

        order = desk.place(types.place_request(customer="Janet", items=[lamp, chairs])).result
        print(f"Order {order.number} of {order.customer}: {', '.join(item.name for item in order.items)}.")

        for reply in desk.follow(types.follow_request(number=order.number)):
            print(f"  it is {types.Status.Value.Name(reply.result)}")

        try:
            desk.find(types.find_request(number=7), timeout=5)
        except grpc.RpcError as error:
            print(f"There is no order 7: {error.code().name}.")


if __name__ == "__main__":
    main(sys.argv[1])
