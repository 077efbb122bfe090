package cribble;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Pattern;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.Term;

/**
 * The relevance model RM3 (Abdul-Jaleel et al., TREC 2004) with the rules of Anserini's Rm3Reranker: feedback terms have 2 to
 * 20 characters, are ASCII letters and digits, and stand in at most a tenth of the documents; each document gives its
 * `terms` most frequent ones; a term's weight is the sum over documents of its share times the document's score.
 */
final class Rm3 {
  private static final Pattern ASCII = Pattern.compile("[a-z0-9]+");
  private static final float MOST_DOCUMENTS = 0.1f;

  private final IndexReader reader;
  private final int terms;
  private final float originalWeight;
  private final boolean ascii;
  private final Map<String, Boolean> eligible = new ConcurrentHashMap<>(); // feedback documents share most of their terms

  Rm3(IndexReader reader, int terms, float originalWeight, boolean ascii) {
    this.reader = reader;
    this.terms = terms;
    this.originalWeight = originalWeight;
    this.ascii = ascii;
  }

  /** The feedback documents of one query with the scores of the first pass. */
  record Feedback(List<Map<String, Float>> vectors, List<Float> scores) {
    static List<Feedback> unpack(ByteBuffer in, List<Map<String, Float>> documents) {
      List<Feedback> queries = new ArrayList<>();
      while (in.hasRemaining()) {
        int count = in.getInt();
        Feedback feedback = new Feedback(new ArrayList<>(), new ArrayList<>());
        for (int i = 0; i < count; i++) {
          feedback.vectors.add(documents.get(in.getInt()));
          feedback.scores.add(in.getFloat());
        }
        queries.add(feedback);
      }
      return queries;
    }
  }

  /** The most frequent eligible terms of a document with their counts. */
  Map<String, Float> vector(List<String> tokens) throws IOException {
    Map<String, Float> kept = new HashMap<>();
    for (Map.Entry<String, Float> entry : count(tokens).entrySet()) {
      String term = entry.getKey();
      Boolean known = eligible.get(term);
      if (known == null) {
        known = isEligible(term);
        eligible.put(term, known);
      }
      if (known) {
        kept.put(term, entry.getValue());
      }
    }
    return largest(kept);
  }

  private boolean isEligible(String term) throws IOException {
    if (term.length() < 2 || term.length() > 20 || (ascii && !ASCII.matcher(term).matches())) {
      return false;
    }
    return (float) reader.docFreq(new Term(BulkSearcher.CONTENTS, term)) / reader.numDocs() <= MOST_DOCUMENTS;
  }

  /** The weights of the expanded query: `originalWeight` parts of the query's own terms, the rest of the feedback. */
  Map<String, Float> expand(List<String> query, Feedback feedback) {
    Map<String, Float> own = unit(count(query));
    Map<String, Float> model = unit(model(feedback));
    Set<String> vocabulary = new HashSet<>(own.keySet());
    vocabulary.addAll(model.keySet());
    Map<String, Float> mixed = new HashMap<>();
    for (String term : vocabulary) {
      double weight = originalWeight * own.getOrDefault(term, 0f) + (1.0 - originalWeight) * model.getOrDefault(term, 0f);
      mixed.put(term, (float) weight);
    }
    return mixed;
  }

  private Map<String, Float> model(Feedback feedback) {
    Set<String> vocabulary = new HashSet<>();
    List<Float> norms = new ArrayList<>();
    for (Map<String, Float> vector : feedback.vectors) {
      vocabulary.addAll(vector.keySet());
      norms.add((float) sum(vector));
    }
    Map<String, Float> weights = new HashMap<>();
    for (String term : vocabulary) {
      float weight = 0;
      for (int i = 0; i < norms.size(); i++) {
        if (norms.get(i) > 0.001f) { // a document without eligible terms
          weight += feedback.vectors.get(i).getOrDefault(term, 0f) / norms.get(i) * feedback.scores.get(i);
        }
      }
      weights.put(term, weight);
    }
    return largest(weights);
  }

  private static Map<String, Float> count(List<String> tokens) {
    Map<String, Float> counts = new HashMap<>();
    for (String token : tokens) {
      counts.merge(token, 1f, Float::sum);
    }
    return counts;
  }

  /** The `terms` largest entries; equal ones in the order of the terms. */
  private Map<String, Float> largest(Map<String, Float> vector) {
    List<Map.Entry<String, Float>> entries = new ArrayList<>(vector.entrySet());
    entries.sort(Map.Entry.<String, Float>comparingByValue().reversed().thenComparing(Map.Entry.comparingByKey()));
    Map<String, Float> kept = new HashMap<>();
    for (Map.Entry<String, Float> entry : entries.subList(0, Math.min(terms, entries.size()))) {
      kept.put(entry.getKey(), entry.getValue());
    }
    return kept;
  }

  private static double sum(Map<String, Float> vector) {
    double sum = 0;
    for (float value : vector.values()) {
      sum += Math.abs(value);
    }
    return sum;
  }

  private static Map<String, Float> unit(Map<String, Float> vector) {
    double sum = sum(vector);
    vector.replaceAll((term, value) -> (float) (value / sum));
    return vector;
  }
}
