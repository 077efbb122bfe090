package cribble;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.search.ConstantScoreScorer;
import org.apache.lucene.search.ConstantScoreWeight;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.QueryVisitor;
import org.apache.lucene.search.ScoreMode;
import org.apache.lucene.search.Scorer;
import org.apache.lucene.search.Weight;
import org.apache.lucene.util.BitSetIterator;
import org.apache.lucene.util.FixedBitSet;

/** A filter over given documents: one set of bits per segment, made once for all queries of a call. */
final class AllowedDocuments extends Query {
  private final FixedBitSet[] perSegment;

  private AllowedDocuments(FixedBitSet[] perSegment) {
    this.perSegment = perSegment;
  }

  /** `bits`: one per document, lowest bit of the first byte first; null for none at all, which allows everything. */
  static AllowedDocuments of(IndexReader reader, byte[] bits) {
    if (bits.length == 0) {
      return null;
    }
    ByteBuffer in = ByteBuffer.wrap(bits).order(ByteOrder.LITTLE_ENDIAN);
    FixedBitSet[] perSegment = new FixedBitSet[reader.leaves().size()];
    for (LeafReaderContext leaf : reader.leaves()) {
      int size = leaf.reader().maxDoc();
      FixedBitSet set = new FixedBitSet(Math.max(1, size));
      for (int i = 0; i < size; i++) {
        int doc = leaf.docBase + i;
        if ((in.get(doc >> 3) >> (doc & 7) & 1) == 1) {
          set.set(i);
        }
      }
      perSegment[leaf.ord] = set;
    }
    return new AllowedDocuments(perSegment);
  }

  @Override
  public Weight createWeight(IndexSearcher searcher, ScoreMode mode, float boost) {
    return new ConstantScoreWeight(this, boost) {
      @Override
      public Scorer scorer(LeafReaderContext context) {
        FixedBitSet set = perSegment[context.ord];
        return new ConstantScoreScorer(this, score(), mode, new BitSetIterator(set, set.cardinality()));
      }

      @Override
      public boolean isCacheable(LeafReaderContext context) {
        return false;
      }
    };
  }

  @Override
  public void visit(QueryVisitor visitor) {}

  @Override
  public String toString(String field) {
    return "allowed documents";
  }

  @Override
  public boolean equals(Object other) {
    return this == other;
  }

  @Override
  public int hashCode() {
    return System.identityHashCode(this);
  }
}
