import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Lab } from "./support/replication_site.ts";

const test = suite("mirror_streaming");

test("a peer is added to a new group -> its golden copy is made there and follows", () => {
  const lab = Lab.pair(1);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.write(3, 7);
  lab.until("elm has it", () => oak.peer("elm").lagSeqs === 0 && elm.log.commitSeq === oak.log.commitSeq);
  assert.is(elm.read(3), 7);
  assert.is(elm.status.role, "golden");
  assert.is(elm.status.writable, false);
  assert.is(elm.status.primary, "oak");
  lab.until("elm knows that it is in sync", () => elm.status.state === "in-sync");
  assert.equal(elm.group!.volumes(), oak.group!.volumes());
});

test.run();
