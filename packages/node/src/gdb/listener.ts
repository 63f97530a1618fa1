/**
 * Where debuggers connect: a Unix socket that only its owner may use, or a TCP port of this computer's loopback. One at a time; what one
 * leaves behind, the next one does not find.
 */

import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { flag, integer, optional, record, type Schema } from '@braid/core/check/schema.ts';
import { frame, PacketReader, textBytes } from '@braid/core/gdb/packet.ts';
import { type GdbOptions, GdbServer } from '@braid/core/gdb/server.ts';
import type { DebugTarget } from '@braid/core/gdb/target.ts';
import { HOST_PATH } from '../check.ts';
import { BraidError } from '../errors.ts';
import { fileError } from '../files.ts';
import { tell } from '../listeners.ts';

export interface GdbServeOptions extends GdbOptions {
  /** The socket's path; by default one in a new folder for temporary files. */
  readonly socket?: string;
  /** Instead of a socket: a TCP port of 127.0.0.1, 0 for any. Every user of this computer can connect then. */
  readonly port?: number;
}

export const GDB_OPTIONS: Schema<GdbServeOptions> = record<GdbServeOptions>({
  socket: optional(HOST_PATH),
  port: optional(integer(0, 65_535)),
  tasks: optional(flag),
});

/** Bytes of a socket's path that every system takes. */
const LONGEST_PATH = 100;
/** What a debugger's first byte is: an acknowledgement, a packet, an interrupt. A browser's is none of these. */
const FIRST_BYTES = new Set([0x24, 0x2b, 0x2d, 0x03]);
/** Between the end of what is sent and the end of the connection. */
const LINGER_MS = 1000;
/** Bytes for a debugger that does not take them. */
const UNSENT = 4 * 2 ** 20;

export class GdbListener implements AsyncDisposable {
  /** What to type in gdb. */
  readonly remote: string;
  readonly socket: string | undefined;
  readonly port: number | undefined;
  /** Told when a debugger has the machine, and when it has left. */
  onAttach: (() => void) | undefined;
  onLeave: (() => void) | undefined;
  private readonly target: DebugTarget;
  private readonly options: GdbOptions;
  private readonly server: Server;
  private readonly removeSocket: () => void;
  private readonly connections = new Set<Socket>();
  private client: GdbServer | undefined;
  private leaving: Promise<void> = Promise.resolve();
  private closing: Promise<void> | undefined;

  private constructor(
    target: DebugTarget,
    options: GdbOptions,
    server: Server,
    place: { readonly socket: string; readonly remove: () => void } | { readonly port: number },
  ) {
    this.target = target;
    this.options = options;
    this.server = server;
    this.socket = 'socket' in place ? place.socket : undefined;
    this.port = 'port' in place ? place.port : undefined;
    this.removeSocket = 'socket' in place ? place.remove : () => {};
    this.remote = `target remote ${'socket' in place ? place.socket : `127.0.0.1:${place.port}`}`;
    server.on('connection', (socket) => this.connected(socket));
  }

  /** Throws `ERR_BRAID_OPTION` and `ERR_BRAID_FILE`. */
  static async open(target: DebugTarget, options: GdbServeOptions = {}): Promise<GdbListener> {
    const { socket, port } = options;
    if (socket !== undefined && port !== undefined)
      throw new BraidError('ERR_BRAID_OPTION', 'gdb connects to a socket or to a port: give one of them');
    const server = createServer();
    if (port === undefined) return new GdbListener(target, options, server, await listenAt(server, socket));
    await listen(server, { host: '127.0.0.1', port }, `port ${port}`);
    return new GdbListener(target, options, server, { port: (server.address() as AddressInfo).port });
  }

  private connected(socket: Socket): void {
    this.connections.add(socket);
    socket.on('error', () => {}); // `close` comes behind it
    socket.on('close', () => this.connections.delete(socket));
    socket.setNoDelay(true);
    // Who says nothing is no debugger: somebody looks whether the socket is in use.
    socket.once('data', (bytes: Buffer) => {
      if (!FIRST_BYTES.has(bytes[0]!)) return socket.destroy();
      if (this.client) refuse(socket, 'another debugger is attached; there can be one at a time');
      else this.serve(socket);
      socket.emit('data', bytes);
    });
  }

  private serve(socket: Socket): void {
    const client = new GdbServer(
      this.target,
      { send: (bytes) => send(socket, bytes), close: () => finish(socket) },
      this.options,
    );
    this.client = client;
    // The one before may not have left the target yet. What has come meanwhile is answered then, by the error if there is one.
    const { leaving } = this;
    const attached = leaving.then(() => client.attach());
    attached.then(
      () => tell(this.onAttach, undefined),
      () => {},
    );
    socket.on('data', (bytes: Buffer) => {
      // What comes waits in the system, not here: for its turn, and while nobody takes the replies.
      socket.pause();
      void leaving.then(() => {
        client.receive(bytes);
        if (!socket.writableNeedDrain) socket.resume();
      });
    });
    socket.on('drain', () => socket.resume());
    socket.on('close', () => {
      // The machine may be gone by now.
      this.leaving = attached.then(() => client.close()).catch(() => {});
      this.client = undefined;
      tell(this.onLeave, undefined);
    });
  }

  /** Ends the connection, if there is one, and takes no more. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    for (const socket of this.connections) socket.destroy();
    await closed;
    this.removeSocket();
    await this.leaving;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Says why, in a way that gdb shows: as the answer to what it asks first. */
function refuse(socket: Socket, why: string): void {
  const reader = new PacketReader();
  socket.on('data', (bytes: Buffer) => {
    if (!reader.push(bytes).some(({ kind }) => kind === 'packet') || socket.writableEnded) return;
    socket.write(textBytes('+'));
    socket.write(frame(textBytes(`E.${why}`)));
    socket.end();
  });
  hangUpSoon(socket);
}

/** Sends, unless the other end has not taken what was sent for long: it is hung up on. */
function send(socket: Socket, bytes: Uint8Array): void {
  if (socket.writableLength > UNSENT) socket.destroy();
  else socket.write(bytes);
}

function finish(socket: Socket): void {
  socket.end();
  hangUpSoon(socket);
}

/** One that does not hang up is hung up on. */
function hangUpSoon(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref();
  socket.on('close', () => clearTimeout(timer));
}

function listen(server: Server, where: { path: string } | { host: string; port: number }, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(fileError('gdb cannot connect to', name, error, 'choose another one')));
    server.listen(where, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}

/**
 * Listens on a socket that is nobody else's at any moment: it is made in a folder of its own, and renamed to its place when its mode is
 * right.
 */
async function listenAt(server: Server, wanted: string | undefined) {
  const home = wanted === undefined ? mkdtempSync(join(tmpdir(), 'braid-gdb-')) : undefined;
  const path = resolve(wanted ?? join(home!, 'socket'));
  const made = join(dirname(path), `.braid-${randomBytes(4).toString('hex')}`);
  try {
    if (Buffer.byteLength(path) > LONGEST_PATH)
      throw new BraidError('ERR_BRAID_OPTION', `the socket's path ${path} is too long: at most ${LONGEST_PATH} bytes`);
    await clear(path);
    mkdirSync(made, { mode: 0o700 });
    try {
      const first = join(made, 's');
      await listen(server, { path: first }, path);
      chmodSync(first, 0o600);
      renameSync(first, path);
    } finally {
      rmSync(made, { recursive: true, force: true });
    }
  } catch (error) {
    server.close();
    if (home !== undefined) rmSync(home, { recursive: true, force: true });
    if (error instanceof BraidError) throw error;
    throw fileError('the socket', path, error, 'choose a path in a folder of yours');
  }
  const { ino } = lstatSync(path);
  const remove = () => {
    // Somebody may have put another one in its place.
    if (lstatSync(path, { throwIfNoEntry: false })?.ino === ino) unlinkSync(path);
    if (home !== undefined) rmSync(home, { recursive: true, force: true });
  };
  return { socket: path, remove };
}

/** Makes room for a socket: removes one that nobody listens on any more, and nothing else. */
async function clear(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (!there) return;
  if (!there.isSocket())
    throw new BraidError('ERR_BRAID_OPTION', `${path} is there, and is no socket: choose another path`);
  const live = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
  if (live) throw new BraidError('ERR_BRAID_OPTION', `somebody listens on ${path} already: choose another path`);
  unlinkSync(path);
}
