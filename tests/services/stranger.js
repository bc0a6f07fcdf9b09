// A client in Node: it knows an address, and prints what becomes of its calls as one JSON object.
'use strict';

const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');
const { GrpcReflection } = require('grpc-js-reflection-client');
const { promisify } = require('util');

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message DebugInfo { repeated string stack_entries = 1; string detail = 2; }
`, { keepCase: true });

function statusOf(error) {
  const found = { code: grpc.status[error.code], message: error.details };
  const [packed] = error.metadata.get('grpc-status-details-bin');
  const details = packed ? root.lookupType('Status').decode(packed).details : [];
  for (const { type_url, value } of details) {
    const type = type_url.split('.').pop();
    found[type] = root.lookupType(type).decode(value).toJSON();
  }
  return found;
}

async function statusOfCall(call) {
  try {
    await call();
  } catch (error) {
    return statusOf(error);
  }
  return null;
}

function exportedService(file, name) {
  const definition = protoLoader.loadSync(file, { keepCase: true, longs: Number, enums: String });
  return name.split('.').reduce((part, word) => part[word], grpc.loadPackageDefinition(definition));
}

async function main(at, name, last, file) {
  const credentials = grpc.credentials.createInsecure();
  const reflection = new GrpcReflection(at, credentials);
  const connect = async (service) => {
    const file = await reflection.getDescriptorBySymbol(service);
    const found = file.getPackageObject({ keepCase: true, longs: Number, enums: String });
    const Service = service.split('.').reduce((part, word) => part[word], found);
    return new Service(at, credentials);
  };
  const desk = await connect(name);
  const health = await connect('grpc.health.v1.Health');
  const call = (client, method, request, options = {}) => promisify(client[method].bind(client))(request, options);
  const print = (found) => console.log(JSON.stringify(found));

  const statuses = [];
  for await (const { result } of desk.follow({ number: (await call(desk, 'place', { customer: 'Zoë', items: [] })).result.number })) {
    statuses.push(result);
  }
  const restocked = (client) => promisify((done) => {
    const upload = client.restock(done);
    for (let count = 1; count <= 100; count++) {
      upload.write({ deliveries: { name: 'lamp', count } });
    }
    upload.end();
  })();
  const exported = new (exportedService(file, name))(at, credentials);
  print({
    services: await reflection.listServices(),
    order: (await call(desk, 'find', { number: 1 })).result,
    statuses,
    stock: (await restocked(desk)).result,
    map: (await restocked(exported)).result,
    raised: await statusOfCall(() => call(desk, 'place', { customer: 'Zoë', items: [{ name: 'couch', count: 9 }] })),
    refused: await statusOfCall(() => call(desk, 'find', {})),
    late: await statusOfCall(() => call(desk, 'count', { seconds: 60 }, { deadline: Date.now() + 200 })),
    health: (await call(health, 'Check', { service: name })).status,
  });

  for await (const { status } of health.Watch({ service: name })) {
    console.log(status);
    if (status === last) {
      break;
    }
  }
  process.exit(0);
}

main(...process.argv.slice(2));
