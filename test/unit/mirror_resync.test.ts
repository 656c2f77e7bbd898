import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Lab, type Site } from "./support/replication_site.ts";

const test = suite("mirror_resync");
const plain = { force: false, fork: false, timeoutMs: 10_000 };

/** elm is away while oak writes past its log's quota: elm must be sent everything. */
function overflowed(seed: number): { lab: Lab; oak: Site; elm: Site } {
  const lab = Lab.pair(seed);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 40; block++) oak.write(block, 1 + block);
  lab.until("arrived", () => elm.log.commitSeq === oak.log.commitSeq);
  lab.cut("oak", "elm");
  lab.until("noticed", () => oak.peer("elm").state === "disconnected");
  for (let round = 0; oak.peer("elm").state === "disconnected"; round++) {
    assert.ok(round < 100, "the quota is reached");
    for (let block = 20; block < 84; block++) oak.submit(block, (round + block) & 255);
    lab.world.runFor(700);
  }
  assert.is(oak.peer("elm").state, "suspended");
  return { lab, oak, elm };
}

/** Writes that go on, spread over the volume. */
function load(lab: Lab, oak: Site, rounds: number, stepMs: number): void {
  for (let round = 0; round < rounds; round++) {
    if (oak.replication?.status().writable === true) {
      for (let write = 0; write < 4; write++) oak.submit((round * 37 + write * 251) % 1024, (round + write) & 255);
    }
    lab.world.runFor(stepMs);
  }
}

function settled(lab: Lab, oak: Site, elm: Site): void {
  lab.until("in sync", () => oak.peer("elm").state === "in-sync", 60_000);
  lab.until("seen on elm", () => elm.log.commitSeq === oak.log.commitSeq);
  assert.equal(elm.image(), oak.image());
}

test("the log's quota is passed -> suspended durably, then a full resync makes it in-sync again", () => {
  const { lab, oak, elm } = overflowed(1);
  assert.ok(oak.saw("peer-suspended"));
  assert.is(oak.replication!.document.peers[0]?.resync?.what, "everything");
  lab.join("oak", "elm");
  settled(lab, oak, elm);
  assert.ok(oak.saw("resync-verified"));
  assert.equal(elm.group!.forks(), []);
});

test("hosts write during a resync -> the image is right in the end, and what was readable before stays readable meanwhile", () => {
  const { lab, oak, elm } = overflowed(2);
  const before = Array.from({ length: 40 }, (_, block) => elm.read(block));
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 400_000 });
  lab.join("oak", "elm");
  lab.until("resyncing", () => oak.peer("elm").state === "resyncing" && elm.status.state === "inconsistent");
  lab.until(
    "the fork is shown",
    () => elm.group!.serving().readable !== null && typeof elm.group!.serving().readable === "object",
  );
  load(lab, oak, 30, 20);
  assert.is(elm.status.state, "inconsistent");
  assert.equal(
    Array.from({ length: 40 }, (_, block) => elm.read(block)),
    before,
  );
  assert.ok(oak.peer("elm").resyncBytesLeft! > 0);
  settled(lab, oak, elm);
});

test("the golden side dies at many points of a resync -> it goes on, and is consistent only when it is", () => {
  const { lab, oak, elm } = overflowed(3);
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 2_000_000 });
  lab.join("oak", "elm");
  for (let round = 0; round < 12; round++) {
    load(lab, oak, 4, 5 + 7 * round);
    const image = elm.replication!.document.image;
    const overwritten = image.kind === "inconsistent" && image.begun;
    elm.restart();
    if (overwritten) assert.is(elm.status.state, "inconsistent");
  }
  settled(lab, oak, elm);
});

test("a long resync is interrupted -> it resumes behind what had arrived", () => {
  const lab = Lab.pair(4, "async", { resyncBytesPerSecond: 150_000 });
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 1024; block += 4) oak.write(block, 1 + (block & 127));
  lab.until("arrived", () => elm.log.commitSeq === oak.log.commitSeq);
  const asked = elm.commands.resync("oak", 60_000);
  lab.until(
    "under way",
    () => elm.replication!.document.image.kind === "inconsistent" && elm.replication!.document.image.nextBlock > 0,
  );
  elm.crash();
  void asked;
  elm.start();
  lab.until("resumed", () => oak.saw("resync-resumed"));
  assert.is(oak.events.filter((event) => event.startsWith("resync-started")).length, 1);
  settled(lab, oak, elm);
});

test("the primary dies at many points of a resync -> confirmed by the inconsistent copy, and the resync ends", () => {
  const { lab, oak, elm } = overflowed(5);
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 2_000_000 });
  lab.join("oak", "elm");
  for (let round = 0; round < 10; round++) {
    load(lab, oak, 3, 5 + 9 * round);
    oak.restart();
    lab.until("oak serves", () => oak.status.writable);
  }
  settled(lab, oak, elm);
});

test("takeover during a resync -> inconsistent; --fork promotes what was there before", () => {
  const { lab, oak, elm } = overflowed(6);
  const before = Array.from({ length: 60 }, (_, block) => elm.read(block));
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 200_000 });
  lab.join("oak", "elm");
  lab.until(
    "begun",
    () => elm.replication!.document.image.kind === "inconsistent" && elm.replication!.document.image.begun,
  );
  oak.crash();
  lab.until("what was under way has arrived", () => elm.status.peers[0]?.state === "disconnected");
  assert.is(lab.refused("takeover", elm.commands.takeover(plain)), "inconsistent");
  const report = lab.done("takeover --fork", elm.commands.takeover({ ...plain, fork: true }));
  assert.is(report.loss, "possible");
  assert.is(report.maybeLostMs, null);
  assert.equal(
    Array.from({ length: 60 }, (_, block) => elm.read(block)),
    before,
  );
  elm.write(2, 222);
  elm.restart();
  lab.join("oak", "elm");
  oak.start();
  lab.until("elm serves again", () => elm.status.writable);
  lab.until("oak knows", () => !oak.status.writable && oak.status.why?.includes("elm has been primary") === true);
  lab.done("resync", oak.commands.resync("elm", 60_000));
  assert.equal(oak.image(), elm.image());
});

test("takeover --force during a resync -> the mixture as it is, and the fork stays", () => {
  const { lab, oak, elm } = overflowed(7);
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 200_000 });
  lab.join("oak", "elm");
  lab.until(
    "begun",
    () => elm.replication!.document.image.kind === "inconsistent" && elm.replication!.document.image.begun,
  );
  oak.crash();
  lab.done("takeover --force", elm.commands.takeover({ ...plain, force: true }));
  assert.is(elm.status.writable, true);
  assert.ok(elm.saw("takeover-forced"));
  assert.is(elm.group!.forks().length, 1);
  elm.write(2, 222);
});

test("group resync on a golden copy that is in sync -> everything is sent again and proven", () => {
  const lab = Lab.pair(8);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  for (let block = 0; block < 100; block++) oak.write(block, 1 + block);
  lab.done("resync", elm.commands.resync("oak", 60_000));
  assert.ok(oak.saw("resync-verified"));
  settled(lab, oak, elm);
  assert.equal(elm.group!.forks(), []);
});

test("a peer is added to a group whose log is gone -> initial sync of what is allocated", () => {
  const lab = new Lab(9, ["oak", "elm"]);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.create();
  oak.start();
  elm.start();
  lab.until("oak serves", () => oak.replication?.status().writable === true);
  oak.addVolume();
  for (let block = 0; block < 1024; block++) oak.submit(block, block & 255);
  lab.world.runFor(3000);
  for (let block = 0; block < 600; block++) oak.submit(block, (block + 3) & 255);
  lab.world.runFor(3000);
  assert.is(oak.group!.log.lineage()[0]?.firstSeq, 1);
  lab.done("add", oak.commands.addPeer("elm", "sync"));
  load(lab, oak, 10, 3);
  settled(lab, oak, elm);
});

test("volumes come and go during a resync -> the copy has what the primary has", () => {
  const { lab, oak, elm } = overflowed(10);
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 1_000_000 });
  lab.join("oak", "elm");
  lab.until("resyncing", () => oak.peer("elm").state === "resyncing");
  oak.addVolume(2);
  for (let block = 0; block < 30; block++) oak.submit(block, 9, 2);
  load(lab, oak, 5, 20);
  settled(lab, oak, elm);
  assert.equal(elm.group!.volumes(), oak.group!.volumes());
  assert.equal(elm.image(2), oak.image(2));
});

test("the link is lost behind the announcement of the end -> the announced record does not make the copy consistent", () => {
  const { lab, oak, elm } = overflowed(11);
  lab.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 50_000 });
  lab.join("oak", "elm");
  lab.until("begun", () => {
    const { image } = elm.replication!.document;
    return image.kind === "inconsistent" && image.begun;
  });
  const { resyncTarget, document } = elm.replication!;
  const id = document.image.kind === "inconsistent" ? document.image.resyncId! : "";
  resyncTarget.announce(id, 1_000_000);
  lab.cut("oak", "elm");
  lab.until("lost", () => elm.replication!.channel("oak")?.connected === false);
  resyncTarget.onMark(1_000_000);
  lab.world.runFor(50);
  assert.is(elm.status.state, "inconsistent");
  lab.world.shape("oak-a", "elm-a", null);
  lab.join("oak", "elm");
  settled(lab, oak, elm);
});

test("the log overflows once more while the golden side prepares -> nothing begins on the volumes of a resync that no longer counts", () => {
  const { lab, oak, elm } = overflowed(12);
  lab.world.shape("elm-a", "oak-a", { latencyMs: 400 });
  lab.join("oak", "elm");
  const resync = () => oak.replication!.document.peers[0]?.resync ?? null;
  lab.until("prepared", () => resync()?.id != null);
  const id = resync()!.id!;
  const suspensions = () => oak.events.filter((event) => event.startsWith("peer-suspended:")).length;
  const before = suspensions();
  for (let round = 0; resync()?.id === id; round++) {
    assert.ok(round < 1000, "the quota is reached again");
    for (let block = 20; block < 84; block++) oak.submit(block, (round + block) & 255);
    lab.world.runUntil(() => resync()?.id !== id, 20);
  }
  assert.is(suspensions(), before, "the overflow is not durable yet");
  const { outbound } = oak.replication!.channel("elm")!;
  outbound!.onResyncReady({ kind: "resyncReady", id });
  assert.is(outbound!.streaming, false);
  lab.world.shape("elm-a", "oak-a", null);
  settled(lab, oak, elm);
});

test.run();
