package cribble;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.lucene.index.BinaryDocValues;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.index.MultiDocValues;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.Scorable;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.search.ScoreMode;
import org.apache.lucene.search.SimpleCollector;
import org.apache.lucene.search.TopScoreDocCollector;
import org.apache.lucene.util.BytesRef;

/**
 * The k best documents of a query, where rank k is cut by score and then by id, not by the place in the index.
 *
 * <p>Lucene's own collector breaks ties by document number. It is asked for k + 1; only where the last two tie, a second pass
 * gathers all documents of that score and the ids decide.
 */
final class TopHits {
  private final IndexSearcher searcher;
  private final int k;
  private final Query allowed;
  private final boolean ascending;

  TopHits(IndexSearcher searcher, int k, Query allowed, boolean ascending) {
    this.searcher = searcher;
    this.k = Math.min(k, searcher.getIndexReader().maxDoc());
    this.allowed = allowed;
    this.ascending = ascending;
  }

  Hits search(Query words) throws IOException {
    if (k == 0) {
      return Hits.NONE;
    }
    Query query = allowed == null
        ? words
        : new BooleanQuery.Builder().add(words, BooleanClause.Occur.MUST).add(allowed, BooleanClause.Occur.FILTER).build();
    // Below the threshold Lucene counts hits one by one before it starts to skip; nobody asks for the count here.
    TopScoreDocCollector collector = TopScoreDocCollector.create(k + 1, null, k + 1);
    searcher.search(query, collector);
    ScoreDoc[] found = collector.topDocs().scoreDocs;
    int size = Math.min(k, found.length);
    int[] documents = new int[size];
    float[] scores = new float[size];
    for (int i = 0; i < size; i++) {
      documents[i] = found[i].doc;
      scores[i] = found[i].score;
    }
    if (found.length > k && found[k].score == found[k - 1].score) {
      resolve(query, documents, scores);
    }
    return new Hits(documents, scores);
  }

  /** Replaces the documents that tie for the last place by those of this score whose ids come first. */
  private void resolve(Query query, int[] documents, float[] scores) throws IOException {
    float score = scores[k - 1];
    int first = k - 1;
    while (first > 0 && scores[first - 1] == score) {
      first--;
    }
    int[] tied = tied(query, score);
    BytesRef[] ids = new BytesRef[tied.length];
    BinaryDocValues values = MultiDocValues.getBinaryValues(searcher.getIndexReader(), BulkSearcher.ID);
    Integer[] order = new Integer[tied.length];
    for (int i = 0; i < tied.length; i++) {
      values.advanceExact(tied[i]);
      ids[i] = BytesRef.deepCopyOf(values.binaryValue());
      order[i] = i;
    }
    Arrays.sort(order, (x, y) -> ascending ? ids[x].compareTo(ids[y]) : ids[y].compareTo(ids[x]));
    for (int i = first; i < k; i++) {
      documents[i] = tied[order[i - first]];
    }
  }

  private int[] tied(Query query, float score) throws IOException {
    List<Integer> tied = new ArrayList<>();
    searcher.search(query, new SimpleCollector() {
      private Scorable scorer;
      private int base;

      @Override
      protected void doSetNextReader(LeafReaderContext context) {
        base = context.docBase;
      }

      @Override
      public void setScorer(Scorable scorer) throws IOException {
        this.scorer = scorer;
        scorer.setMinCompetitiveScore(score);
      }

      @Override
      public void collect(int doc) throws IOException {
        if (scorer.score() == score) {
          tied.add(base + doc);
        }
      }

      @Override
      public ScoreMode scoreMode() {
        return ScoreMode.TOP_SCORES;
      }
    });
    return tied.stream().mapToInt(Integer::intValue).toArray();
  }
}
