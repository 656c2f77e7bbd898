/**
 * A mutated iSCSI session against a running appliance, and a good one after it: whatever was said, the appliance goes on serving.
 */
import { Prng } from "../../hal/mock/prng.ts";
import { RawSocket } from "../real/support/raw_socket.ts";
import { Initiator, takeAnswers } from "../unit/support/iscsi_initiator.ts";
import { judgeAnswers } from "./iscsi_conversation.ts";
import type { CaseReport, FuzzCase } from "./target.ts";

/** A session whose host has ended its half is over after the server's 10 s for last replies, and some for a busy machine. */
const endLimitMs = 20_000;

export async function playLive(at: string, targetName: string, fuzzCase: FuzzCase): Promise<CaseReport> {
  const { script, scenarioSeed } = fuzzCase;
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
  // A reset may have swallowed the tail of what was said: only what came is judged.
  const { reached, finding } = judgeAnswers(received, true);
  return { reached, finding: finding ?? (await servingTrouble(at, targetName, scenarioSeed)) };
}

/** null: a good host logs in, and is answered. */
async function servingTrouble(at: string, targetName: string, seed: number): Promise<string | null> {
  const raw = new RawSocket(at);
  const initiator = new Initiator({ send: (...pieces) => raw.send(...pieces), received: new Uint8Array(0) });
  // An initiator port of its own: the mutated session may have been the same one.
  initiator.isid = new Uint8Array([0x80, 1, 2, 3, seed & 255, (seed >> 8) & 255]);
  raw.send(initiator.loginPdu({ InitiatorName: "iqn.2026-11.test:good", TargetName: targetName }));
  const login = await nextAnswer(raw);
  if (login?.loginStatus !== 0) return "a good host is not let in";
  initiator.nop("good");
  const echo = await nextAnswer(raw);
  initiator.logout();
  const bye = await nextAnswer(raw);
  raw.destroy();
  return echo?.text === "good" && bye?.opcode === 0x26 ? null : "a good host is not served";
}

async function nextAnswer(raw: RawSocket) {
  const header = await raw.read(48);
  if (header.byteLength < 48) return undefined;
  const dataBytes = header.readUIntBE(5, 3);
  const data = await raw.read(dataBytes + (-dataBytes & 3));
  return takeAnswers(new Uint8Array(Buffer.concat([header, data]))).answers[0];
}
