// Calls the order desk from Node: node customer.js HOST:PORT. It knows the address, and asks the desk for all else.
'use strict';

const grpc = require('@grpc/grpc-js');
const { GrpcReflection } = require('grpc-js-reflection-client');
const { promisify } = require('util');

async function connect(at, name) {
  const credentials = grpc.credentials.createInsecure();
  const file = await new GrpcReflection(at, credentials).getDescriptorBySymbol(name);
  const found = file.getPackageObject({ keepCase: true, longs: Number, enums: String, defaults: true });
  const Service = name.split('.').reduce((part, word) => part[word], found);
  return new Service(at, credentials);
}

async function main(at) {
  const desk = await connect(at, 'example.orders');
  const call = (method, request, options = {}) => promisify(desk[method].bind(desk))(request, options);

  const order = (await call('place', { customer: 'Janet', items: [{ name: 'couch' }] })).result;
  console.log(`order ${order.number} of ${order.customer}`);

  for await (const { result } of desk.follow({ number: order.number })) {
    console.log(`  it is ${result}`);
  }

  try {
    await call('place', { customer: 'Henry', items: [{ name: 'couch' }] });
  } catch (error) {
    console.log(`${grpc.status[error.code]}: ${error.details}`);
  }

  try {
    await call('count', { seconds: 60 }, { deadline: Date.now() + 200 });
  } catch (error) {
    console.log(grpc.status[error.code]);
  }
  desk.close();
}

main(process.argv[2]);
