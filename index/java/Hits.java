package cribble;

import java.nio.ByteBuffer;

/** The best documents of one query, best first. */
record Hits(int[] documents, float[] scores) {
  static final Hits NONE = new Hits(new int[0], new float[0]);

  /** All counts (int32 a query), then all document numbers (int32), then all scores (float32), little-endian. */
  static byte[] pack(Hits[] queries) {
    long total = 0;
    for (Hits hits : queries) {
      total += hits.documents.length;
    }
    ByteBuffer out = BulkSearcher.buffer(Math.toIntExact(4L * queries.length + 8 * total));
    for (Hits hits : queries) {
      out.putInt(hits.documents.length);
    }
    for (Hits hits : queries) {
      out.asIntBuffer().put(hits.documents);
      out.position(out.position() + 4 * hits.documents.length);
    }
    for (Hits hits : queries) {
      out.asFloatBuffer().put(hits.scores);
      out.position(out.position() + 4 * hits.scores.length);
    }
    return out.array();
  }
}
