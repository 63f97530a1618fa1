/** A guest agent for tests: a script of answers behind a port that takes as many bytes as it is told to. */

import { AgentClient } from './client.ts';

export type Reply = Record<string, unknown> | undefined;
export interface Asked {
  readonly execute: string;
  readonly arguments: Record<string, unknown>;
  readonly id: number;
}

const BRAID = ['guest-ping', 'guest-info', 'guest-sync', 'braid-exec', 'braid-exec-input'];
const STOCK = ['guest-ping', 'guest-info', 'guest-sync', 'guest-exec', 'guest-exec-status'];

export class FakePeer {
  now = 0n;
  /** Bytes that the port still takes. */
  room = Number.POSITIVE_INFINITY;
  /** Every request so far, syncs included. */
  readonly asked: Asked[] = [];
  /** Whether requests are answered at all. */
  alive = true;
  /** Answers by command: the value of `return`, or an Error for an error. */
  readonly answers: Record<string, (request: Asked) => unknown> = {};
  readonly client: AgentClient;
  #text = '';

  constructor(kind: 'braid' | 'stock' = 'braid') {
    const supported_commands = (kind === 'braid' ? BRAID : STOCK).map((name) => ({ name, enabled: true }));
    this.answers['guest-info'] = () => ({ version: '1.2.3', supported_commands });
    this.answers['guest-ping'] = () => ({});
    this.answers['guest-sync'] = (request) => request.arguments.id;
    this.client = new AgentClient({
      send: (bytes) => {
        const taken = Math.min(bytes.length, this.room);
        this.room -= taken;
        this.#text += new TextDecoder('latin1').decode(bytes.subarray(0, taken));
        return taken;
      },
      now: () => this.now,
    });
  }

  /** Opens the port and lets everything that is under way happen. */
  start(): this {
    this.client.connected(true);
    this.settle();
    return this;
  }

  /** Takes the requests that have been sent since; a byte 0xff voids what came before it. */
  requests(): Asked[] {
    const found: Asked[] = [];
    for (;;) {
      const end = this.#text.indexOf('\n');
      if (end < 0) return found;
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      const kept = line.slice(line.lastIndexOf('\xff') + 1);
      if (kept === '') continue;
      const request = JSON.parse(kept) as Asked;
      this.asked.push(request);
      found.push(request);
    }
  }

  /** Answers requests until none is left. */
  settle(): void {
    for (let found = this.requests(); found.length > 0; found = this.requests()) {
      for (const request of found) if (this.alive) this.answer(request);
    }
  }

  answer(request: Asked): void {
    if (request.execute === 'guest-sync-delimited') {
      this.say({ return: request.arguments.id, id: request.id }, '\xff');
      return;
    }
    const answer = this.answers[request.execute]?.(request) ?? new Error('no such command');
    if (answer instanceof Error) {
      const kind = request.execute in this.answers ? 'GenericError' : 'CommandNotFound';
      this.say({ error: { class: kind, desc: answer.message }, id: request.id });
    } else this.say({ return: answer, id: request.id });
  }

  say(message: unknown, before = ''): void {
    this.raw(`${before}${JSON.stringify(message)}\n`);
  }

  event(event: string, data: unknown): void {
    this.say({ event, data });
  }

  /** Sends characters as bytes. */
  raw(text: string): void {
    this.client.receive(Uint8Array.from(text, (character) => character.charCodeAt(0)));
  }

  /** Lets guest time pass, deadline by deadline, answering in between. */
  pass(time: bigint): void {
    const until = this.now + time;
    for (;;) {
      this.settle();
      const next = this.client.deadline();
      if (next === undefined || next > until) break;
      if (next > this.now) this.now = next;
      this.client.advance(this.now);
    }
    this.now = until;
    this.client.advance(until);
    this.settle();
  }
}
