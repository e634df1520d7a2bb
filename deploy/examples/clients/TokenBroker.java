// Ask Token Broker for access tokens: a client for Java 17 without any library, to be copied into a program.
//
//   Token token = TokenBroker.getToken("directory", null);   // ask for each use: the broker keeps it fresh
//   request.header("Authorization", token.tokenType() + " " + token.accessToken());
//   token = TokenBroker.getToken("directory", token.etag());  // once, when the API answered 401
//
// As a program it prints what kind of token there is, and with --print the token.

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public final class TokenBroker {
    static final int ANSWER_SECONDS = 15; // for a whole answer; the broker waits for its server for 10
    static final int LARGEST_ANSWER = 262_144; // bytes; the broker itself reads no larger ones
    static final int LONGEST_WAIT = 10; // seconds; who is told to come back later than that fails at once

    /** Its printed form does not show the token. */
    public record Token(String accessToken, String tokenType, int expiresIn, String etag) {
        @Override public String toString() {
            return "Token[" + tokenType + ", " + expiresIn + "]";
        }
    }

    /** No token. The code is the "error" of the broker; "consent_required" is for a person, and never retried. */
    @SuppressWarnings("serial")
    public static final class BrokerException extends IOException {
        public final String code;

        BrokerException(String code, String text) {
            super(code + text);
            this.code = code;
        }
    }

    /** Gives a usable token; rejected is the ETag of one that the API refused, or null. */
    public static Token getToken(String name, String rejected) throws IOException, InterruptedException {
        if (!name.matches("[a-z0-9][a-z0-9._-]{0,62}"))
            throw new BrokerException("bad_name", ": names have a-z, 0-9, \".\", \"_\" and \"-\"");
        for (int broken = 0, waited = 0; ; ) {
            String answer;
            try {
                answer = ask(name, rejected);
            } catch (BrokerException error) {
                throw error;
            } catch (IOException error) { // it went away before it had answered: once more, and not for ever
                if (++broken == 2) throw new BrokerException("unreachable", ": " + error.getMessage());
                continue;
            }
            int status = Integer.parseInt(answer.substring(9, 12));
            String body = answer.substring(answer.indexOf("\r\n\r\n"));
            if (status == 200) {
                int expiresIn = Integer.parseInt(member(body, "expires_in", "0"));
                return new Token(member(body, "access_token", ""), member(body, "token_type", ""), expiresIn,
                        header(answer, "ETag", null));
            }
            String seconds = header(answer, "Retry-After", "1");
            int wait = seconds.matches("[0-9]{1,9}") ? Integer.parseInt(seconds) : 1;
            if ((status == 429 || status == 503) && waited < 2 && wait <= LONGEST_WAIT) {
                waited++; // not now: as long as it says
                Thread.sleep(wait * 1000L);
                continue;
            }
            String hint = member(body, "hint", member(body, "error_description", ""));
            throw new BrokerException(member(body, "error", "no_json"), " (" + status + "): " + hint);
        }
    }

    private static String ask(String name, String rejected) throws IOException, InterruptedException {
        // HTTP/1.0: one answer, with its length, and the connection ends.
        String request = "GET /v1/tokens/" + name + " HTTP/1.0\r\nHost: localhost\r\n\r\n";
        if (rejected != null) {
            String body = "{\"rejected\":\"" + rejected.replaceAll("[\"\\\\]", "\\\\$0") + "\"}";
            request = "POST /v1/tokens/" + name + "/refresh HTTP/1.0\r\nHost: localhost\r\n"
                    + "Content-Type: application/json\r\nContent-Length: " + body.length() + "\r\n\r\n" + body;
        }
        ByteBuffer sent = ByteBuffer.wrap(request.getBytes(UTF_8));
        try (SocketChannel channel = connect()) {
            CompletableFuture<String> answer = CompletableFuture.supplyAsync(() -> exchange(channel, sent));
            return answer.get(ANSWER_SECONDS, TimeUnit.SECONDS);
        } catch (TimeoutException error) {
            throw new BrokerException("unreachable", ": no answer in time");
        } catch (ExecutionException error) {
            throw error.getCause() instanceof java.io.UncheckedIOException io ? io.getCause() : new IOException(error);
        }
    }

    private static SocketChannel connect() throws IOException, InterruptedException {
        String socket = System.getenv().getOrDefault("TOKEN_BROKER_SOCKET", "unix:///run/token-broker/api.sock");
        if (!socket.startsWith("unix:///"))
            throw new BrokerException("bad_socket", ": TOKEN_BROKER_SOCKET has to be unix:///PATH");
        for (int attempt = 1; ; attempt++) {
            try {
                return SocketChannel.open(UnixDomainSocketAddress.of(socket.substring("unix://".length())));
            } catch (IOException error) { // nobody there: a broker that restarts is back within a second or so
                if (attempt == 10) throw new BrokerException("unreachable", ": " + socket + ": " + error.getMessage());
                Thread.sleep(100);
            }
        }
    }

    private static String exchange(SocketChannel channel, ByteBuffer sent) {
        try {
            while (sent.hasRemaining()) channel.write(sent);
            ByteArrayOutputStream read = new ByteArrayOutputStream();
            ByteBuffer piece = ByteBuffer.allocate(8_192);
            while (channel.read(piece.clear()) >= 0) {
                read.write(piece.array(), 0, piece.position());
                if (read.size() > LARGEST_ANSWER) throw new BrokerException("answer_too_large", "");
            }
            String answer = read.toString(UTF_8);
            int head = answer.indexOf("\r\n\r\n") + 4;
            if (head < 16 || read.size() - head < Integer.parseInt(header(answer, "Content-Length", "" + Integer.MAX_VALUE)))
                throw new IOException("the connection broke before an answer");
            return answer;
        } catch (IOException error) {
            throw new java.io.UncheckedIOException(error);
        }
    }

    private static String header(String answer, String name, String otherwise) {
        String head = answer.substring(0, answer.indexOf("\r\n\r\n") + 2);
        Matcher found = Pattern.compile("(?i)\r\n" + name + ": *([^\r]*)\r\n").matcher(head);
        return found.find() ? found.group(1) : otherwise;
    }

    // Enough of JSON for the broker's answers: a name with its quotes and a colon cannot stand within a text of them.
    private static String member(String json, String name, String otherwise) {
        String value = "\\s*:\\s*(?:([0-9]+)|\"([^\"\\\\]*(?:\\\\.[^\"\\\\]*)*)\")";
        Matcher found = Pattern.compile("\"" + name + "\"" + value).matcher(json);
        if (!found.find()) return otherwise;
        return found.group(1) != null ? found.group(1) : found.group(2).replaceAll("\\\\([\"\\\\/])", "$1");
    }

    /** java TokenBroker.java [--print] NAME [ETAG of a rejected token] */
    public static void main(String[] arguments) throws InterruptedException {
        String[] words = Arrays.stream(arguments).filter(word -> !word.equals("--print")).toArray(String[]::new);
        try {
            Token token = getToken(words.length > 0 ? words[0] : "", words.length > 1 ? words[1] : null);
            System.out.println("token_type=" + token.tokenType() + " expires_in=" + token.expiresIn());
            if (Arrays.asList(arguments).contains("--print")) System.out.println(token.accessToken());
        } catch (IOException error) {
            System.err.println("token broker: " + error.getMessage());
            System.exit(1);
        }
    }
}
