// The list of requests that Node's http module reads from a stream of bytes. Input and output
// as in reader.go.
'use strict';
const http = require('http');
const { Duplex } = require('stream');

function read(data) {
  return new Promise((resolve) => {
    const requests = [];
    let end = 'clean';
    let underWay = 0;
    const server = http.createServer({ keepAliveTimeout: 0, requestTimeout: 0, connectionsCheckingInterval: 1e9 });
    const take = (request, response) => {
      underWay++;
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('error', () => {});
      request.on('end', () => {
        underWay--;
        requests.push({
          method: request.method,
          target: Buffer.from(request.url, 'latin1').toString('base64'),
          body: Buffer.concat(chunks).toString('base64'),
        });
        response.end();
      });
    };
    server.on('request', take);
    server.on('checkContinue', take);
    server.on('checkExpectation', take);
    const tunnel = (request, socket) => {
      requests.push({ method: request.method, target: Buffer.from(request.url, 'latin1').toString('base64'), body: '' });
      end = 'closed';
      socket.destroy();
    };
    server.on('connect', tunnel);
    server.on('clientError', (error, socket) => {
      // The end of the stream in the middle of a message is no judgement.
      end = error.code === 'HPE_INVALID_EOF_STATE' || error.code === 'ECONNRESET' ? 'partial' : 'closed';
      // What was parsed before it is told a few turns later.
      let turns = 8;
      const wait = () => (turns-- ? setImmediate(wait) : socket.destroy());
      wait();
    });
    const socket = new Duplex({
      read() {},
      write(chunk, encoding, done) {
        if (/^connection: close\r$/im.test(chunk.toString('latin1'))) end = 'closed';
        done();
      },
    });
    socket.setTimeout = socket.setNoDelay = socket.setKeepAlive = () => socket;
    socket.on('close', () => {
      if (underWay && end === 'clean') end = 'partial';
      resolve({ requests, end });
    });
    socket.on('error', () => {});
    server.emit('connection', socket);
    socket.push(data);
    socket.push(null);
  });
}

let held = Buffer.alloc(0);
let turn = Promise.resolve();
process.stdin.on('data', (chunk) => {
  held = Buffer.concat([held, chunk]);
  while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
    const size = held.readUInt32BE(0);
    const data = Buffer.from(held.subarray(4, 4 + size));
    held = held.subarray(4 + size);
    turn = turn.then(() => read(data)).then((reading) => process.stdout.write(JSON.stringify(reading) + '\n'));
  }
});
