package cribble;

import java.util.logging.Level;
import java.util.logging.Logger;

/** Silences Lucene's notes about the Java version: they would land on the user's terminal at every start. */
final class Quiet {
  private static final Logger LUCENE = Logger.getLogger("org.apache.lucene"); // kept: loggers are held weakly

  private Quiet() {}

  static void please() {
    LUCENE.setLevel(Level.SEVERE);
  }
}
