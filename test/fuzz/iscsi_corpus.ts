/** Sessions as well-behaved iSCSI initiators have them, one per feature, and some that are refused. */
import { initiatorName, read10, write10 } from "../unit/support/iscsi_bench.ts";
import { Initiator, textOf } from "../unit/support/iscsi_initiator.ts";
import { pattern } from "../unit/support/nbd_session.ts";
import type { Script } from "./target.ts";

const solicited = { ImmediateData: "No", MaxBurstLength: "2048", MaxOutstandingR2T: "2" };
const unsolicited = { InitialR2T: "No", FirstBurstLength: "4096", MaxBurstLength: "4096" };

/** An initiator that says what it says whatever it is answered: target transfer tags count from 1. */
function record(say: (initiator: Initiator) => void): Script {
  const sent: Uint8Array[] = [];
  const wire = { send: (...pieces: Uint8Array[]) => void sent.push(...pieces), received: new Uint8Array(0) };
  say(new Initiator(wire));
  return sent;
}

function everything(initiator: Initiator): void {
  initiator.command({ cdb: [0], expected: 0 });
  initiator.command({ cdb: [0x12], read: true, expected: 255 });
  initiator.command({ cdb: write10(0, 4), write: true, data: pattern(2048) });
  const burst = initiator.command({
    cdb: write10(8, 6),
    write: true,
    final: false,
    expected: 3072,
    data: pattern(512),
  });
  initiator.dataOut({ itt: burst, dataSn: 0, offset: 512, data: pattern(1024), final: false });
  initiator.dataOut({ itt: burst, dataSn: 1, offset: 1536, data: pattern(1536) });
  initiator.command({ cdb: read10(0, 16), read: true, expected: 8192 });
  initiator.command({ cdb: read10(0, 8), read: true, expected: 1000 });
  initiator.command({ cdb: [0xff], expected: 0 });
  initiator.nop("ping");
  initiator.manage({ action: 1, tag: 3, refCmdSn: 1 });
  initiator.manage({ action: 5 });
  initiator.command({ cdb: [0x7f], expected: 0, ahs: new Uint8Array([0, 17, 1, 0, ...pattern(16)]) });
  initiator.text({ SendTargets: "" });
  initiator.nop("", { itt: 0xffffffff, ttt: 1, immediate: true });
  initiator.logout();
}

function asked(initiator: Initiator): void {
  const first = initiator.command({ cdb: write10(0, 10), write: true, expected: 5120 });
  const data = pattern(5120);
  for (let ttt = 1; ttt <= 3; ttt++) {
    const offset = (ttt - 1) * 2048;
    initiator.dataOut({ itt: first, ttt, offset, data: data.subarray(offset, offset + 2048) });
  }
  const second = initiator.command({ cdb: write10(4, 4), write: true, expected: 2048 });
  initiator.manage({ action: 1, tag: second });
  initiator.dataOut({ itt: second, ttt: 4, offset: 0, data: data.subarray(0, 2048) });
  initiator.command({ cdb: read10(0, 200), read: true, expected: 102_400 });
  for (const action of [2, 4, 6, 3, 8]) initiator.manage({ action });
  initiator.logout({ reason: 1 });
}

export function iscsiCorpus(targetName: string): Script[] {
  const names = { InitiatorName: initiatorName, TargetName: targetName };
  const login = (initiator: Initiator, keys: Readonly<Record<string, string>>) =>
    initiator.wire.send(initiator.loginPdu({ ...names, ...keys }));
  return [
    record((initiator) => {
      login(initiator, unsolicited);
      everything(initiator);
    }),
    record((initiator) => {
      login(initiator, solicited);
      asked(initiator);
    }),
    record((initiator) => {
      login(initiator, { HeaderDigest: "CRC32C", DataDigest: "CRC32C", ...unsolicited });
      initiator.digests = { header: true, data: true };
      everything(initiator);
    }),
    record((initiator) => {
      login(initiator, { MaxRecvDataSegmentLength: "512", ...solicited });
      initiator.command({ cdb: read10(0, 200), read: true, expected: 102_400 });
      initiator.command({ cdb: read10(0, 200), read: true, expected: 102_400 });
      initiator.manage({ action: 7 });
    }),
    record((initiator) => {
      initiator.wire.send(
        initiator.loginPdu({ InitiatorName: initiatorName, SessionType: "Discovery" }, { stage: 0, next: 1 }),
        initiator.loginPdu({ HeaderDigest: "None" }),
      );
      initiator.text({ SendTargets: "All" });
      initiator.text({ SendTargets: targetName }, { flags: 0x40 });
      initiator.command({ cdb: [0], expected: 0 });
      initiator.logout();
    }),
    record((initiator) => {
      const text = textOf({ ...names, ...unsolicited, "X-other": "1" });
      initiator.wire.send(
        initiator.loginPdu(text.subarray(0, 50), { transit: false, more: true }),
        initiator.loginPdu(text.subarray(50)),
      );
      asked(initiator);
    }),
    record((initiator) => {
      initiator.wire.send(
        initiator.loginPdu({ ...names, AuthMethod: "CHAP,None" }, { stage: 0, transit: false }),
        initiator.loginPdu({ CHAP_A: "7,5" }, { stage: 0, transit: false }),
        initiator.loginPdu({ CHAP_N: "one", CHAP_R: `0x${"00".repeat(32)}` }, { stage: 0, next: 3 }),
      );
    }),
    record((initiator) => {
      login(initiator, unsolicited);
      // Ahead of their turn, then what they wait for.
      for (const ahead of [3, 2, 1, 0]) {
        initiator.command({ cdb: write10(ahead, 1), write: true, data: pattern(512), cmdSn: 1 + ahead });
      }
      initiator.command({ cdb: [0], expected: 0, immediate: true });
    }),
  ];
}
