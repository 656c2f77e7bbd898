/** The login phase: stages, keys, names, sessions, and the hostile logins of `hostile_input.md`. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { IscsiBench, initiatorName, targetName } from "./support/iscsi_bench.ts";
import { pdu, textOf } from "./support/iscsi_initiator.ts";

const test = suite("iscsi_login");

const names = { InitiatorName: initiatorName, TargetName: targetName };

/** One login request on a new connection: its status, and that a rejection is one event and the end of the stream. */
function loginStatus(
  keys: Readonly<Record<string, string>> | Uint8Array,
  fields?: Parameters<ReturnType<IscsiBench["connect"]>["initiator"]["login"]>[1],
  prepare: (bench: IscsiBench, initiator: ReturnType<IscsiBench["connect"]>["initiator"]) => void = () => {},
): number {
  const bench = new IscsiBench();
  const { initiator, stream } = bench.connect();
  prepare(bench, initiator);
  const answer = initiator.login(keys, fields);
  assert.is(answer.opcode, 0x23);
  if (answer.loginStatus !== 0) {
    assert.is(stream.state, "ended");
    assert.equal(bench.codes(), ["iscsi-login-rejected"]);
    assert.is(bench.nexuses.length, 0);
  } else assert.equal(bench.events, []);
  return answer.loginStatus;
}

test("security, operational, full feature → a session with a TSIH", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.connect();
  const first = initiator.login({ ...names, AuthMethod: "CHAP,None" }, { stage: 0, next: 1 });
  assert.equal(first.keys, { TargetPortalGroupTag: "1", AuthMethod: "None" });
  assert.is(first.flags, 0x81);
  assert.is(first.u16(14), 0);
  initiator.tsih = 0;
  const second = initiator.login({ HeaderDigest: "None" }, { stage: 1, next: 3 });
  assert.is(second.flags, 0x87);
  assert.is(second.u16(14), 1);
  assert.equal(second.keys, { HeaderDigest: "None", MaxRecvDataSegmentLength: "262144" });
  assert.is(second.statSn, first.statSn + 1);
  const { identity } = bench.nexus;
  assert.ok(identity.host === bench.asked, "the nexus has the identity object that was judged");
  assert.equal(identity, {
    host: { remote: "192.0.2.7:40000", iqn: initiatorName, tlsName: null },
    initiatorPort: `${initiatorName},i,0x800000010000`,
    portalGroup: 1,
    relativePort: 1,
  });
});

test("a login fed one byte at a time, and in every two pieces → the same", () => {
  const bench = new IscsiBench();
  const { initiator, stream } = bench.connect();
  stream.sendInPieces(initiator.loginPdu(names), 1);
  assert.is(initiator.answer().loginStatus, 0);
  const bytes = initiator.loginPdu(names);
  for (let cut = 1; cut < bytes.byteLength; cut++) {
    const one = new IscsiBench().connect();
    one.stream.send(bytes.subarray(0, cut), bytes.subarray(cut));
    assert.is(one.initiator.answer().loginStatus, 0);
  }
});

test("every key offered → the answer that section 13 asks for", () => {
  const answers = (keys: Readonly<Record<string, string>>, session: Readonly<Record<string, string>> = names) => {
    const { initiator } = new IscsiBench().connect();
    const { keys: got } = initiator.login({ ...session, ...keys });
    const { TargetPortalGroupTag: _tag, MaxRecvDataSegmentLength: _segment, ...rest } = got;
    return rest;
  };
  const offers: [string, string, string][] = [
    ["HeaderDigest", "CRC32C,None", "CRC32C"],
    ["HeaderDigest", "None,CRC32C", "None"],
    ["HeaderDigest", "SHA,CRC32C", "CRC32C"],
    ["DataDigest", "MD5", "Reject"],
    ["MaxConnections", "8", "1"],
    ["MaxConnections", "0", "Reject"],
    ["InitialR2T", "No", "No"],
    ["InitialR2T", "Yes", "Yes"],
    ["InitialR2T", "yes", "Reject"],
    ["ImmediateData", "No", "No"],
    ["MaxBurstLength", "16776192", "1048576"],
    ["MaxBurstLength", "0x8000", "32768"],
    ["MaxBurstLength", "511", "Reject"],
    ["MaxBurstLength", "16777216", "Reject"],
    ["FirstBurstLength", "262144", "262144"],
    ["FirstBurstLength", "-1", "Reject"],
    ["MaxOutstandingR2T", "1", "1"],
    ["MaxOutstandingR2T", "65535", "8"],
    ["DataPDUInOrder", "No", "Yes"],
    ["DataSequenceInOrder", "No", "Yes"],
    ["DefaultTime2Wait", "5", "5"],
    ["DefaultTime2Retain", "20", "0"],
    ["DefaultTime2Retain", "3601", "Reject"],
    ["ErrorRecoveryLevel", "2", "0"],
    ["ErrorRecoveryLevel", "3", "Reject"],
    ["iSCSIProtocolLevel", "2", "1"],
    ["iSCSIProtocolLevel", "0", "0"],
    ["TaskReporting", "FastAbort,ResponseFence,RFC3720", "ResponseFence"],
    ["TaskReporting", "FastAbort", "Reject"],
    ["IFMarker", "No", "Reject"],
    ["OFMarkInt", "2048~8192", "Reject"],
    ["TargetAlias", "mine", "Reject"],
    ["X-com.example.speed", "11", "NotUnderstood"],
    ["NoSuchKey", "1", "NotUnderstood"],
  ];
  for (const [key, value, answer] of offers) assert.equal(answers({ [key]: value }), { [key]: answer }, key);
  assert.equal(answers({ MaxRecvDataSegmentLength: "65536", InitiatorAlias: "one" }), {});
  assert.equal(answers({ FirstBurstLength: "65536", MaxBurstLength: "4096" }), {
    FirstBurstLength: "4096",
    MaxBurstLength: "4096",
  });
  assert.equal(answers({ FirstBurstLength: "65536", InitialR2T: "Yes", ImmediateData: "No" }), {
    FirstBurstLength: "Irrelevant",
    InitialR2T: "Yes",
    ImmediateData: "No",
  });
  const discovery = { InitiatorName: initiatorName, SessionType: "Discovery" };
  assert.equal(answers({ InitialR2T: "No", MaxBurstLength: "512", HeaderDigest: "None" }, discovery), {
    InitialR2T: "Irrelevant",
    MaxBurstLength: "Irrelevant",
    HeaderDigest: "None",
  });
});

test("a bad MaxRecvDataSegmentLength → Reject", () => {
  for (const value of ["511", "16777216", "many", "1e3", ""]) {
    const { initiator } = new IscsiBench().connect();
    const { text } = initiator.login({ ...names, MaxRecvDataSegmentLength: value });
    assert.ok(text.includes("MaxRecvDataSegmentLength=Reject\0"), value);
  }
});

test("names and session types that are missing, wrong or unknown → their own status", () => {
  assert.is(loginStatus({ TargetName: targetName }), 0x0207);
  assert.is(loginStatus({ InitiatorName: initiatorName }), 0x0207);
  assert.is(loginStatus({ InitiatorName: initiatorName, TargetName: `${targetName}x` }), 0x0203);
  assert.is(loginStatus({ ...names, SessionType: "Boot" }), 0x0209);
  assert.is(loginStatus({ ...names, InitiatorName: "me" }), 0x0200);
  assert.is(loginStatus({ ...names, InitiatorName: `iqn.2026-11.test:${"x".repeat(210)}` }), 0x0200);
  assert.is(loginStatus({ ...names, InitiatorName: initiatorName.toUpperCase() }), 0);
  assert.is(loginStatus({ ...names, InitiatorName: "eui.02004567A425678D" }), 0);
  assert.is(
    loginStatus(names, undefined, (bench) => {
      bench.access = "unknown";
    }),
    0x0202,
  );
});

test("text that is malformed → initiator error", () => {
  const text = (value: string) => new TextEncoder().encode(value);
  const good = `InitiatorName=${initiatorName}\0TargetName=${targetName}\0`;
  assert.is(loginStatus(text(good)), 0);
  assert.is(loginStatus(text(good.slice(0, -1))), 0x0200);
  assert.is(loginStatus(text(`${good}NoEquals\0`)), 0x0200);
  assert.is(loginStatus(text(`${good}=value\0`)), 0x0200);
  assert.is(loginStatus(text(`${good}${"K".repeat(63)}=1\0`)), 0);
  assert.is(loginStatus(text(`${good}${"K".repeat(64)}=1\0`)), 0x0200);
  assert.is(loginStatus(text(`${good}X-long=${"v".repeat(255)}\0`)), 0);
  assert.is(loginStatus(text(`${good}X-long=${"v".repeat(256)}\0`)), 0x0200);
  assert.is(loginStatus(text(`${good}In valid=1\0`)), 0x0200);
  assert.is(loginStatus(text(`${good}InitialR2T=Yes\0InitialR2T=Yes\0`)), 0x0200);
  assert.is(loginStatus(text(`${good}InitiatorName=${initiatorName}\0`)), 0x0200);
  assert.is(loginStatus(new Uint8Array([...text(good), 0x58, 0x3d, 0xff, 0xfe, 0])), 0x0200);
  assert.is(loginStatus(text(good + Array.from({ length: 127 }, (_, index) => `X-${index}=1\0`).join(""))), 0x0200);
});

test("8 KiB of login that fill the segment exactly → taken; one byte more → format error", () => {
  const base = textOf(names).byteLength;
  const filler = (bytes: number) => {
    let text = "";
    for (let index = 0; text.length < bytes; index++) {
      const left = bytes - text.length;
      const head = `X-${String(index).padStart(3, "0")}=`;
      const rest = left - head.length - 1;
      const value = Math.min(200, rest - (rest - 200 > 0 && rest - 201 < head.length + 2 ? 20 : 0));
      text += `${head}${"v".repeat(value)}\0`;
    }
    return text;
  };
  const exactly = new Uint8Array([...textOf(names), ...new TextEncoder().encode(filler(8192 - base))]);
  assert.is(exactly.byteLength, 8192);
  assert.is(loginStatus(exactly), 0);
  const { initiator, stream } = new IscsiBench().connect();
  stream.send(initiator.loginPdu(new Uint8Array([...exactly, 0])));
  assert.is(initiator.answer().loginStatus, 0x0200);
});

test("stages that are jumped, mixed or left backwards → initiator error", () => {
  assert.is(loginStatus(names, { stage: 2, next: 3 }), 0x0200);
  assert.is(loginStatus(names, { stage: 3, next: 3 }), 0x0200);
  assert.is(loginStatus(names, { stage: 1, next: 1 }), 0x0200);
  assert.is(loginStatus(names, { stage: 1, next: 0 }), 0x0200);
  assert.is(loginStatus(names, { stage: 0, next: 2 }), 0x0200);
  assert.is(loginStatus(names, { flags: 0xc7 }), 0x0200);
  assert.is(loginStatus(names, { stage: 0, next: 3 }), 0);
  const { initiator } = new IscsiBench().connect();
  assert.is(initiator.login(names, { stage: 0, next: 1 }).loginStatus, 0);
  assert.is(initiator.login({}, { stage: 0, next: 3 }).loginStatus, 0x0200);
});

test("a version that is too new → version not supported", () => {
  assert.is(loginStatus(names, { version: 1 }), 0x0205);
});

test("text cut over requests with C → answered when it is whole", () => {
  const { initiator } = new IscsiBench().connect();
  const text = textOf({ ...names, InitialR2T: "No" });
  for (let at = 0; at < text.byteLength - 20; at += 20) {
    const answer = initiator.login(text.subarray(at, at + 20), { transit: false, more: true });
    assert.equal([answer.loginStatus, answer.flags, answer.data.byteLength], [0, 0x04, 0]);
  }
  const last = initiator.login(text.subarray(Math.floor((text.byteLength - 1) / 20) * 20));
  assert.is(last.loginStatus, 0);
});

test("an endless C=1 → initiator error, by count and by bytes", () => {
  const { initiator } = new IscsiBench().connect();
  let requests = 0;
  while (initiator.login(new Uint8Array(0), { transit: false, more: true }).loginStatus === 0) requests++;
  assert.is(requests, 64);
  const large = new IscsiBench().connect();
  let bytes = 0;
  while (large.initiator.login(new Uint8Array(8192), { transit: false, more: true }).loginStatus === 0) bytes += 8192;
  assert.is(bytes, 65536);
});

test("an endless negotiation without C → ended by count", () => {
  const { initiator } = new IscsiBench().connect();
  initiator.login(names, { transit: false });
  let requests = 1;
  while (initiator.login({}, { transit: false }).loginStatus === 0) requests++;
  assert.is(requests, 64);
});

test("an answer above 8 KiB → in pieces with C", () => {
  const { initiator } = new IscsiBench().connect();
  const keys: Record<string, string> = {};
  for (let index = 0; index < 120; index++) keys[`X-${"k".repeat(55)}${index}`] = "1";
  const first = initiator.login({ ...names, ...keys });
  assert.equal([first.loginStatus, first.flags, first.data.byteLength], [0, 0x44, 8192]);
  initiator.tsih = 0;
  const second = initiator.login({});
  assert.equal([second.loginStatus, second.flags], [0, 0x87]);
  assert.is((first.text + second.text).split("=NotUnderstood\0").length, 121);
});

test("PDUs other than login before full feature → the connection ends, nothing is executed", () => {
  for (const opcode of [0, 1, 2, 4, 5, 6, 0x10, 0x1e, 0x3f]) {
    const bench = new IscsiBench();
    const { stream } = bench.connect();
    stream.send(pdu({ opcode, data: "some data" }));
    assert.is(stream.received.byteLength, 0);
    assert.is(stream.state, "ended");
    assert.equal(bench.codes(), ["iscsi-login-rejected"]);
    const later = new IscsiBench().connect();
    later.initiator.login(names, { transit: false });
    later.stream.send(pdu({ opcode }));
    assert.is(later.initiator.answer().loginStatus, 0x020b);
  }
});

test("additional headers in a login, or a data segment above 8 KiB → initiator error", () => {
  for (const fields of [{ ahs: new Uint8Array(8) }, { dataBytes: 8193 }, { dataBytes: 0xffffff }]) {
    const { initiator, stream } = new IscsiBench().connect();
    stream.send(pdu({ opcode: 3, immediate: true, flags: 0x87, ...fields }));
    assert.is(initiator.answer().loginStatus, 0x0200);
  }
});

test("the same InitiatorName and ISID again → the old session ends first", () => {
  const bench = new IscsiBench();
  const first = bench.open();
  const old = bench.nexus;
  old.hold = true;
  first.initiator.command({ cdb: [0], expected: 0 });
  const second = bench.open();
  assert.ok(old.closed);
  assert.is(first.stream.state, "aborted");
  assert.equal(first.initiator.answers(), []);
  assert.is(bench.server.sessionCount, 1);
  second.initiator.command({ cdb: [0], expected: 0 });
  assert.is(second.initiator.answer().u8(3), 0);
  const third = bench.connect();
  third.initiator.isid = new Uint8Array([0x80, 0, 0, 2, 0, 0]);
  assert.is(third.initiator.login(names).loginStatus, 0);
  assert.is(bench.server.sessionCount, 2);
});

test("a TSIH that is not there → session does not exist; one that is → too many connections", () => {
  const bench = new IscsiBench();
  const { initiator: first } = bench.open();
  const wrong = bench.connect();
  wrong.initiator.tsih = 4711;
  assert.is(wrong.initiator.login(names).loginStatus, 0x020a);
  const joining = bench.connect();
  joining.initiator.tsih = first.tsih;
  assert.is(joining.initiator.login(names).loginStatus, 0x0206);
  first.nop("still here");
  assert.is(first.answer().text, "still here");
});

test("ISID or CID changed during a login, or names told late → initiator error", () => {
  const changed = new IscsiBench().connect();
  changed.initiator.login(names, { transit: false });
  changed.initiator.isid = new Uint8Array(6);
  assert.is(changed.initiator.login({}).loginStatus, 0x0200);
  const late = new IscsiBench().connect();
  late.initiator.login({ InitiatorName: initiatorName, SessionType: "Discovery" }, { transit: false });
  assert.is(late.initiator.login({ TargetName: targetName }).loginStatus, 0x0200);
});

test("a login that does not end → closed at the time limit, one event", () => {
  const bench = new IscsiBench({ loginMs: 1000 });
  const { initiator, stream } = bench.connect();
  initiator.login(names, { transit: false });
  bench.clock.pass(999);
  assert.is(stream.state, "open");
  bench.clock.pass(1);
  assert.is(stream.state, "aborted");
  assert.equal(bench.codes(), ["iscsi-login-rejected"]);
  assert.is(bench.server.sessionCount, 0);
});

test("failed logins of one address → refused after the limit, welcome again with time; other addresses go on", () => {
  const bench = new IscsiBench({ failedLoginsMax: 3, failedLoginMs: 1000 });
  for (let index = 0; index < 3; index++) {
    const { initiator, stream } = bench.connect(`192.0.2.9:${index}`);
    assert.is(initiator.login({ InitiatorName: "me" }).loginStatus, 0x0200);
    stream.close();
  }
  for (let index = 0; index < 5; index++) assert.is(bench.connect("192.0.2.9:9").stream.state, "aborted");
  assert.is(bench.codes().filter((code) => code === "iscsi-logins-limited").length, 1);
  assert.is(bench.open({}, "192.0.2.10:1").stream.state, "open");
  bench.clock.pass(1000);
  assert.is(bench.open({}, "192.0.2.9:7").stream.state, "open");
});

test("1,000 half-finished logins → the oldest are closed, sessions go on, and a new host logs in", () => {
  const bench = new IscsiBench({ halfOpenMax: 10 });
  const { initiator } = bench.open();
  const streams = [];
  for (let index = 0; index < 1000; index++) {
    const { stream, initiator: half } = bench.connect(`198.51.100.${index % 250}:1`);
    stream.send(half.loginPdu(names).subarray(0, 40));
    streams.push(stream);
  }
  assert.is(bench.server.sessionCount, 11);
  assert.is(streams.filter(({ state }) => state === "open").length, 10);
  initiator.nop("on");
  assert.is(initiator.answer().text, "on");
  assert.is(
    bench.connect("203.0.113.5:1").initiator.login({ ...names, InitiatorName: "iqn.2026-11.test:two" }).loginStatus,
    0,
  );
});

test("sessions above the limit → closed at once, one event in a row", () => {
  const bench = new IscsiBench({ sessionsMax: 2, halfOpenMax: 2 });
  bench.open();
  bench.connect();
  for (let index = 0; index < 3; index++) assert.is(bench.connect().stream.state, "aborted");
  assert.equal(bench.codes(), ["iscsi-too-many-sessions"]);
});

test("a probe that connects and goes → no event", () => {
  const bench = new IscsiBench();
  const { stream } = bench.connect();
  stream.handler.onEnd();
  stream.close();
  assert.equal(bench.events, []);
  assert.is(bench.server.sessionCount, 0);
});

test.run();
