/**
 * A mutated NBD session against a running appliance, and a good one after it: whatever was said, the appliance goes on serving.
 */
import { Prng } from "../../hal/mock/prng.ts";
import { NbdHost, RawSocket } from "../real/support/raw_socket.ts";
import { Conversation } from "./nbd_conversation.ts";
import type { CaseReport, FuzzCase } from "./target.ts";

/** A session whose host has ended its half is over after the server's 10 s for last replies, and some for a busy machine. */
const endLimitMs = 20_000;
/** What the server takes in one request. */
const payloadBytesMax = 32 * 1024 * 1024;

export async function playLive(at: string, volume: string, { script, scenarioSeed }: FuzzCase): Promise<CaseReport> {
  const prng = new Prng(scenarioSeed, "fuzz live");
  // Each from an address of its own where it can be had: who fails too often is not let in for a while.
  const ownAddress = at.startsWith("127.")
    ? `127.${1 + prng.below(250)}.${prng.below(250)}.${1 + prng.below(250)}`
    : null;
  const raw = new RawSocket(at, ownAddress);
  const sent = Buffer.concat(script);
  let from = 0;
  while (from < sent.byteLength && !raw.closed) {
    const end = prng.chance(0.5) ? sent.byteLength : from + 1 + prng.below(sent.byteLength - from);
    raw.send(sent.subarray(from, end));
    from = end;
    await new Promise((resolve) => setImmediate(resolve));
  }
  raw.socket.end();
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    raw.destroy();
  }, endLimitMs);
  const received = await raw.ended();
  clearTimeout(limit);
  raw.destroy();
  if (late) return { reached: [], finding: `the session has not ended ${endLimitMs} ms after its host` };
  // A reset may have swallowed the tail of what was said, on either side: only what came is judged.
  const conversation = new Conversation({ sent, received, ended: true, settled: true, payloadBytesMax });
  if (conversation.finding !== null) return { reached: conversation.reached, finding: conversation.finding };
  return { reached: conversation.reached, finding: await servingTrouble(at, volume) };
}

/** null: a good host is served. Where TLS is required, being told so is all that a plain host can get. */
async function servingTrouble(at: string, volume: string): Promise<string | null> {
  const host = await NbdHost.open(at, volume);
  if (host === null) return "a good host is not let in";
  const read = await host.read(0, 4096);
  host.close();
  host.raw.destroy();
  return Buffer.isBuffer(read) && read.byteLength === 4096 ? null : "a good host is not served";
}
