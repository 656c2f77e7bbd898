/** CHAP, one way and mutual, and what attackers try with it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ChapHash } from "../../firmware/frontend/iscsi/ports.ts";
import { parseBinary } from "../../firmware/frontend/iscsi/text_keys.ts";
import { chapHashes, IscsiBench, initiatorName, targetName } from "./support/iscsi_bench.ts";
import type { Answer, Initiator } from "./support/iscsi_initiator.ts";

const test = suite("iscsi_chap");

const names = { InitiatorName: initiatorName, TargetName: targetName };
const secret = new TextEncoder().encode("a secret of 16 b");
const ownSecret = new TextEncoder().encode("the target's own");

function guarded(): IscsiBench {
  const bench = new IscsiBench();
  bench.access = { user: "one", secret };
  bench.own = { user: "oak", secret: ownSecret };
  return bench;
}

function response(hash: ChapHash, challenge: Answer, key = secret): Uint8Array {
  const { CHAP_I, CHAP_C } = challenge.keys;
  return chapHashes.hash(hash, [new Uint8Array([Number(CHAP_I)]), key, parseBinary(CHAP_C!, 1024)!]);
}

const hex = (bytes: Uint8Array) => `0x${Buffer.from(bytes).toString("hex")}`;

/** Up to the challenge. */
function challenged(bench: IscsiBench, algorithms = "5"): { initiator: Initiator; challenge: Answer } {
  const { initiator } = bench.connect();
  const method = initiator.login({ ...names, AuthMethod: "CHAP,None" }, { stage: 0, transit: false });
  assert.is(method.keys["AuthMethod"], "CHAP");
  return { initiator, challenge: initiator.login({ CHAP_A: algorithms }, { stage: 0, transit: false }) };
}

function answered(keys: (challenge: Answer) => Record<string, string>, algorithms = "5"): Answer {
  const { initiator, challenge } = challenged(guarded(), algorithms);
  return initiator.login(keys(challenge), { stage: 0, next: 1 });
}

const algorithms: [string, ChapHash, number][] = [
  ["5", "md5", 16],
  ["6", "sha1", 20],
  ["7", "sha256", 32],
  ["8", "sha3-256", 32],
];

for (const [number, hash, bytes] of algorithms) {
  test(`one way and mutual with ${hash}, in hexadecimal and base64 → proved`, () => {
    const bench = guarded();
    const { initiator, challenge } = challenged(bench, `${number},5`);
    assert.is(challenge.keys["CHAP_A"], number);
    assert.is(parseBinary(challenge.keys["CHAP_C"]!, 1024)!.byteLength, bytes);
    const own = new Uint8Array(bytes).fill(9);
    const proof = initiator.login(
      {
        CHAP_N: "one",
        CHAP_R: `0b${Buffer.from(response(hash, challenge)).toString("base64")}`,
        CHAP_I: "77",
        CHAP_C: hex(own),
      },
      { stage: 0, next: 1 },
    );
    assert.equal([proof.loginStatus, proof.flags], [0, 0x81]);
    assert.equal(proof.keys, {
      CHAP_N: "oak",
      CHAP_R: hex(chapHashes.hash(hash, [new Uint8Array([77]), ownSecret, own])),
    });
    assert.is(initiator.login({}).loginStatus, 0);
    assert.is(bench.nexuses.length, 1);
    const second = challenged(guarded(), number);
    const answer = second.initiator.login(
      { CHAP_N: "one", CHAP_R: hex(response(hash, second.challenge)).toUpperCase().replace("X", "x") },
      { stage: 0, next: 3 },
    );
    assert.equal([answer.loginStatus, answer.flags], [0, 0x83]);
  });
}

test("the hash of identifier, secret and challenge → that of another implementation", () => {
  const challenge = Uint8Array.from({ length: 16 }, (_, index) => index);
  const value = chapHashes.hash("md5", [new Uint8Array([1]), new TextEncoder().encode("secret"), challenge]);
  assert.is(Buffer.from(value).toString("hex"), "740e86463bda3a4d7017d6e0fba0699d");
});

test("a wrong secret, a wrong name, a response that is too short, too long, odd or not a number → authentication failed", () => {
  const right = (challenge: Answer) => hex(response("md5", challenge));
  const refused: ((challenge: Answer) => Record<string, string>)[] = [
    (challenge) => ({ CHAP_N: "one", CHAP_R: hex(response("md5", challenge, ownSecret)) }),
    (challenge) => ({ CHAP_N: "two", CHAP_R: right(challenge) }),
    (challenge) => ({ CHAP_R: right(challenge) }),
    () => ({ CHAP_N: "one" }),
    (challenge) => ({ CHAP_N: "one", CHAP_R: right(challenge).slice(0, -2) }),
    (challenge) => ({ CHAP_N: "one", CHAP_R: `${right(challenge)}00` }),
    (challenge) => ({ CHAP_N: "one", CHAP_R: right(challenge).slice(0, -1) }),
    (challenge) => ({ CHAP_N: "one", CHAP_R: right(challenge).slice(2) }),
    () => ({ CHAP_N: "one", CHAP_R: "0x" }),
    () => ({ CHAP_N: "one", CHAP_R: "0xzz" }),
    () => ({ CHAP_N: "one", CHAP_R: `0b${"A".repeat(1000)}` }),
    () => ({ CHAP_N: "one", CHAP_R: `0x${"00".repeat(1024)}` }),
    () => ({ CHAP_N: "one", CHAP_R: "0bAAA=AAAA" }),
  ];
  for (const keys of refused) assert.is(answered(keys).loginStatus, 0x0201);
  assert.is(answered(() => ({ CHAP_N: "one", CHAP_R: `0x${"00".repeat(1025)}` })).loginStatus, 0x0200);
  assert.is(answered((challenge) => ({ CHAP_N: "one", CHAP_R: right(challenge) })).loginStatus, 0);
});

test("a reflected challenge → refused, no response of ours leaves", () => {
  const answer = answered((challenge) => ({
    CHAP_N: "one",
    CHAP_R: hex(response("md5", challenge)),
    CHAP_I: challenge.keys["CHAP_I"]!,
    CHAP_C: challenge.keys["CHAP_C"]!,
  }));
  assert.is(answer.loginStatus, 0x0201);
  assert.is(answer.data.byteLength, 0);
});

test("mutual CHAP with an unproved initiator, one secret for both, or none of ours → refused, no response of ours leaves", () => {
  const mutual = (challenge: Answer) => ({
    CHAP_N: "one",
    CHAP_R: hex(response("md5", challenge)),
    CHAP_I: "1",
    CHAP_C: hex(new Uint8Array(16).fill(3)),
  });
  const cases: [IscsiBench["own"], (challenge: Answer) => Record<string, string>][] = [
    [{ user: "oak", secret }, mutual],
    [null, mutual],
    [{ user: "oak", secret: ownSecret }, (challenge) => ({ ...mutual(challenge), CHAP_R: hex(new Uint8Array(16)) })],
    [{ user: "oak", secret: ownSecret }, (challenge) => ({ ...mutual(challenge), CHAP_I: "256" })],
    [{ user: "oak", secret: ownSecret }, (challenge) => ({ ...mutual(challenge), CHAP_C: "0x" })],
  ];
  for (const [own, keys] of cases) {
    const bench = guarded();
    bench.own = own;
    const { initiator, challenge } = challenged(bench);
    const answer = initiator.login(keys(challenge), { stage: 0, next: 1 });
    assert.equal([answer.loginStatus, answer.data.byteLength], [0x0201, 0]);
  }
});

test("security skipped though CHAP is required → authentication failed", () => {
  const tries: [Record<string, string>, { stage: number; next: number }][] = [
    [names, { stage: 1, next: 3 }],
    [names, { stage: 0, next: 3 }],
    [names, { stage: 0, next: 1 }],
    [
      { ...names, AuthMethod: "None" },
      { stage: 0, next: 1 },
    ],
    [
      { ...names, AuthMethod: "KRB5,SRP" },
      { stage: 0, next: 1 },
    ],
  ];
  for (const [keys, fields] of tries) {
    const bench = guarded();
    const { initiator } = bench.connect();
    assert.is(initiator.login(keys, fields).loginStatus, 0x0201);
    assert.is(bench.nexuses.length, 0);
  }
});

test("a transit asked for with AuthMethod or CHAP_A → the stage stays until the response is right", () => {
  const bench = guarded();
  const { initiator } = bench.connect();
  assert.is(initiator.login({ ...names, AuthMethod: "CHAP" }, { stage: 0, next: 3 }).flags, 0);
  initiator.tsih = 0;
  const challenge = initiator.login({ CHAP_A: "5" }, { stage: 0, next: 3 });
  assert.is(challenge.flags, 0);
  const keys = { CHAP_N: "one", CHAP_R: hex(response("md5", challenge)) };
  assert.is(initiator.login(keys, { stage: 0, next: 3 }).flags, 0x83);
});

test("algorithm lists without a known one, CHAP keys out of their order → refused", () => {
  for (const list of ["9", "", "4,99", "5 ", "constructor"]) {
    assert.is(challenged(guarded(), list).challenge.loginStatus, 0x0201, list);
  }
  const early = guarded().connect();
  assert.is(early.initiator.login({ ...names, CHAP_A: "5" }, { stage: 0, transit: false }).loginStatus, 0x0200);
  const both = guarded().connect();
  const keys = { ...names, AuthMethod: "CHAP", CHAP_A: "5", CHAP_N: "one", CHAP_R: "0x00" };
  assert.is(both.initiator.login(keys, { stage: 0, transit: false }).loginStatus, 0x0200);
  const { initiator } = challenged(guarded());
  assert.is(initiator.login({ CHAP_A: "6" }, { stage: 0, transit: false }).loginStatus, 0x0200);
});

test("challenges → fresh every time; secrets and responses are in no event", () => {
  const bench = guarded();
  const seen = new Set<string>();
  for (let index = 0; index < 10; index++) {
    const { initiator, challenge } = challenged(bench);
    seen.add(challenge.keys["CHAP_C"]!);
    initiator.login({ CHAP_N: "one", CHAP_R: hex(new Uint8Array(16).fill(0xab)) }, { stage: 0, next: 1 });
  }
  assert.is(seen.size, 10);
  const log = JSON.stringify(bench.events);
  assert.is(bench.events.length, 10);
  assert.not.ok(/abab|a secret|target's own/.test(log));
});

test.run();
