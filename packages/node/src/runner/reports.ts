/** What the main thread is told of a machine, or a replay, in order: console output gathers, and goes out before anything else is said. */

import { toRecord } from '../errors.ts';
import { OUTPUT_AHEAD, type Report } from '../pool/protocol.ts';
import type { RunnerHost } from './thread.ts';

export class Reports {
  private readonly send: RunnerHost['report'];
  private gathered: Uint8Array[] = [];
  /** Bytes of output that have not reached their consumer. */
  private ahead = 0;

  constructor({ report }: Pick<RunnerHost, 'report'>) {
    this.send = report;
  }

  /** Whether more output has to wait until some of it has been taken. */
  get behind(): boolean {
    return this.ahead > OUTPUT_AHEAD;
  }

  taken(bytes: number): void {
    this.ahead -= bytes;
  }

  console(bytes: Uint8Array): void {
    this.gathered.push(bytes);
    this.ahead += bytes.length;
  }

  /** Sends what the console has said. */
  flush(): void {
    const parts = this.gathered;
    if (parts.length === 0) return;
    this.gathered = [];
    const bytes = parts.length === 1 ? parts[0]! : new Uint8Array(Buffer.concat(parts));
    this.send({ type: 'console', bytes }, [bytes.buffer as ArrayBuffer]);
  }

  /** Output of a program that a call has started. */
  output(id: number, stream: 'stdout' | 'stderr', bytes: Uint8Array): void {
    this.ahead += bytes.length;
    this.say({ type: 'output', id, stream, bytes });
  }

  say(report: Report): void {
    this.flush();
    this.send(report);
  }

  /** Answers a call. */
  result(id: number, value: unknown): void {
    this.say({ type: 'result', id, value });
  }

  /** Answers a call with an error. */
  error(id: number, error: unknown): void {
    this.say({ type: 'error', id, error: toRecord(error) });
  }
}
