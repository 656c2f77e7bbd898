/**
 * What an iSCSI target has answered in one session, and whether it may: whole PDUs of a target, StatSN without a gap, ExpCmdSN and
 * MaxCmdSN never going back, digests as agreed.
 */
import { type Answer, takeAnswers } from "../unit/support/iscsi_initiator.ts";

const targetOpcodes = new Set([0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f]);
const carryDetail = new Set([0x21, 0x22, 0x26, 0x3f]);

export interface Judged {
  readonly reached: string[];
  readonly finding: string | null;
}

/** `mayBeCut`: the stream was aborted, so that the last PDU need not be whole. */
export function judgeAnswers(received: Uint8Array, mayBeCut: boolean): Judged {
  let taken: ReturnType<typeof takeAll>;
  try {
    taken = takeAll(received);
  } catch (error) {
    return { reached: [], finding: String(error) };
  }
  const reached: string[] = [];
  let finding = taken.restBytes > 0 && !mayBeCut ? "an answer is not whole" : null;
  let previous: Answer | null = null;
  let statSn: number | null = null;
  for (const answer of taken.answers) {
    if (!targetOpcodes.has(answer.opcode)) finding ??= `a PDU of opcode 0x${answer.opcode.toString(16)}`;
    if (carriesStatus(answer)) {
      if (statSn !== null && answer.statSn !== statSn) finding ??= `StatSN ${answer.statSn}, ${statSn} expected`;
      statSn = (answer.statSn + 1) >>> 0;
    }
    if (previous !== null) {
      const back = ((answer.expCmdSn - previous.expCmdSn) | 0) < 0 || ((answer.maxCmdSn - previous.maxCmdSn) | 0) < 0;
      if (back) finding ??= "ExpCmdSN or MaxCmdSN went back";
    }
    const word = describe(answer);
    reached.push(word, `${previous?.opcode} then ${word}`);
    previous = answer;
  }
  return { reached, finding };
}

function carriesStatus(answer: Answer): boolean {
  if (answer.opcode === 0x31) return false;
  if (answer.opcode === 0x25) return (answer.flags & 1) !== 0;
  return answer.opcode !== 0x20 || answer.itt !== 0xffffffff;
}

function describe(answer: Answer): string {
  const detail = carryDetail.has(answer.opcode) ? ` ${answer.u8(2)} ${answer.u8(3)}` : "";
  const login = answer.opcode === 0x23 ? ` ${answer.loginStatus}` : "";
  const sense = answer.opcode === 0x21 && answer.data.byteLength > 14 ? ` ${answer.sense.toString(16)}` : "";
  return `${answer.opcode.toString(16)} ${answer.flags}${detail}${login}${sense}`;
}

/** Login answers have no digests; what follows has those that were agreed. */
function takeAll(received: Uint8Array): { answers: Answer[]; restBytes: number } {
  const answers: Answer[] = [];
  let digests = { header: false, data: false };
  let bytes = received;
  while (bytes.byteLength >= 48 && (bytes[0]! & 0x3f) === 0x23) {
    const dataBytes = (bytes[5]! << 16) | (bytes[6]! << 8) | bytes[7]!;
    const totalBytes = 48 + dataBytes + (-dataBytes & 3);
    const [login] = takeAnswers(bytes.subarray(0, totalBytes)).answers;
    if (login === undefined) break;
    answers.push(login);
    digests = {
      header: digests.header || login.keys["HeaderDigest"] === "CRC32C",
      data: digests.data || login.keys["DataDigest"] === "CRC32C",
    };
    bytes = bytes.subarray(totalBytes);
  }
  const after = takeAnswers(bytes, digests);
  return { answers: [...answers, ...after.answers], restBytes: after.rest.byteLength };
}
