package cribble;

import java.io.IOException;
import java.util.Arrays;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.Scorable;
import org.apache.lucene.search.ScoreMode;
import org.apache.lucene.search.SimpleCollector;
import org.apache.lucene.util.LongHeap;

/**
 * The k best documents of a query, by score and then by id, not by the place in the index as with Lucene's own collector.
 *
 * <p>A hit is one long: the bits of its score (positive floats sort like their bits) above the place of its id among all ids.
 * So a heap of longs keeps the best, and ties at rank k need no second look.
 */
final class TopHits {
  private final IndexSearcher searcher;
  private final int k;
  private final Query allowed;
  private final IdOrder order;

  TopHits(IndexSearcher searcher, int k, Query allowed, IdOrder order) {
    this.searcher = searcher;
    this.k = Math.min(k, searcher.getIndexReader().maxDoc());
    this.allowed = allowed;
    this.order = order;
  }

  Hits search(Query words) throws IOException {
    if (k == 0) {
      return Hits.NONE;
    }
    Query query = allowed == null
        ? words
        : new BooleanQuery.Builder().add(words, BooleanClause.Occur.MUST).add(allowed, BooleanClause.Occur.FILTER).build();
    Best best = new Best();
    searcher.search(query, best);
    return best.hits();
  }

  private final class Best extends SimpleCollector {
    private final LongHeap heap = new LongHeap(k);
    private Scorable scorer;
    private int base;
    private float least = 0; // once k hits are known, the score of the last

    @Override
    public ScoreMode scoreMode() {
      return ScoreMode.TOP_SCORES;
    }

    @Override
    protected void doSetNextReader(LeafReaderContext context) {
      base = context.docBase;
    }

    @Override
    public void setScorer(Scorable scorer) throws IOException {
      this.scorer = scorer;
      scorer.setMinCompetitiveScore(least);
    }

    @Override
    public void collect(int doc) throws IOException {
      float score = scorer.score();
      if (score < least) {
        return;
      }
      long hit = (long) Float.floatToIntBits(score) << 32 | order.place(base + doc);
      if (heap.size() < k) {
        heap.push(hit);
        if (heap.size() < k) {
          return;
        }
      } else if (hit > heap.top()) {
        heap.updateTop(hit);
      } else {
        return;
      }
      float last = score(heap.top());
      if (last > least) {
        least = last;
        scorer.setMinCompetitiveScore(last); // not the next float: a document that ties may still win by its id
      }
    }

    Hits hits() {
      int size = heap.size();
      long[] found = new long[size];
      for (int i = 0; i < size; i++) {
        found[i] = heap.get(i + 1);
      }
      Arrays.sort(found);
      int[] documents = new int[size];
      float[] scores = new float[size];
      for (int i = 0; i < size; i++) {
        long hit = found[size - 1 - i];
        documents[i] = order.document((int) hit);
        scores[i] = score(hit);
      }
      return new Hits(documents, scores);
    }

    private static float score(long hit) {
      return Float.intBitsToFloat((int) (hit >>> 32));
    }
  }
}
