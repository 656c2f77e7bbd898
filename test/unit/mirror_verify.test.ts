import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Lab } from "./support/replication_site.ts";

const test = suite("mirror_verify");

test("verify under writes -> equal, nothing stops, no fork stays", () => {
  const lab = Lab.pair(1);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 300; block += 3) oak.write(block, 1 + (block & 63));
  const answer = oak.commands.verify(null, 60_000);
  const writes = Array.from({ length: 50 }, (_, index) => oak.submit(index, 200));
  const report = lab.done("verify", answer);
  assert.is(report.equal, true);
  assert.is(report.peers.length, 1);
  assert.is(report.peers[0]!.volumes[0]!.digest, report.peers[0]!.volumes[0]!.peerDigest);
  assert.is(report.peers[0]!.comparedBytes, 4 * 1024 * 1024);
  lab.until("the writes", () => writes.every((written) => written.done && written.error === null));
  lab.until("no forks", () => oak.group!.forks().length === 0 && elm.group!.forks().length === 0);
});

test("a block differs -> found, with its range, and group resync repairs it", () => {
  const lab = Lab.pair(2);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 600; block += 3) oak.write(block, 1 + (block & 63));
  lab.until("arrived and at home", () => elm.log.destagedSeq === oak.log.commitSeq);
  elm.group!.store.apply([{ kind: "zero", volume: 1, firstBlock: 300, blockCount: 1 }], () => {});
  lab.world.runFor(50);
  const report = lab.done("verify", oak.commands.verify("elm", 60_000));
  assert.is(report.equal, false);
  assert.is(report.peers[0]!.volumes[0]!.equal, false);
  assert.ok(oak.saw("verify-mismatch"));
  lab.done("resync", elm.commands.resync("oak", 60_000));
  assert.is(lab.done("verify again", oak.commands.verify("elm", 60_000)).equal, true);
});

test("the link is lost during a verify -> refused, and the forks are dropped on both sides", () => {
  const lab = Lab.pair(3);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 100; block++) oak.write(block, 1);
  const answer = oak.commands.verify("elm", 60_000);
  lab.world.runFor(2);
  lab.cut("oak", "elm");
  assert.is(lab.refused("verify", answer), "not-connected");
  lab.join("oak", "elm");
  lab.until("in sync", () => oak.peer("elm").state === "in-sync");
  lab.until("no forks", () => oak.group!.forks().length === 0 && elm.group!.forks().length === 0);
});

test("either side dies during a verify -> its fork is dropped at the next start", () => {
  const lab = Lab.pair(4);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let round = 0; round < 8; round++) {
    lab.until("in sync", () => oak.peer("elm").state === "in-sync");
    void oak.commands.verify("elm", 60_000);
    lab.world.runFor(3 + 90 * round);
    (round % 2 === 0 ? oak : elm).restart();
    lab.until("oak serves", () => oak.status.writable);
  }
  lab.until("in sync", () => oak.peer("elm").state === "in-sync");
  lab.until("no forks", () => oak.group!.forks().length === 0 && elm.group!.forks().length === 0);
});

test("verify on a golden copy, or without a peer -> refused with a reason", () => {
  const lab = Lab.pair(5);
  assert.is(lab.refused("at elm", lab.site("elm").commands.verify(null, 1000)), "not-primary");
  assert.is(lab.refused("ash", lab.site("oak").commands.verify("ash", 1000)), "not-found");
});

test.run();
