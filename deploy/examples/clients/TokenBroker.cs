// Ask Token Broker for access tokens: a client for .NET 6 or newer without packages, to be copied into a program.
//
//   var token = await TokenBroker.GetTokenAsync("directory");             // ask for each use: the broker keeps it fresh
//   request.Headers.Authorization = new AuthenticationHeaderValue(token.TokenType, token.AccessToken);
//   token = await TokenBroker.GetTokenAsync("directory", token.ETag);     // once, when the API answered 401
//
// As a program it prints what kind of token there is, and with --print the token.

using System;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;

/// <summary>Not a record: those print all of their members, and with them the token.</summary>
public sealed class Token
{
    public string AccessToken, TokenType, ETag;
    public int ExpiresIn;
}

/// <summary>No token. Code is the "error" of the broker; "consent_required" is for a person, and never retried.</summary>
public sealed class BrokerException : Exception
{
    public readonly string Code;

    public BrokerException(string code, string text) : base(code + text) { Code = code; }
}

public static class TokenBroker
{
    const int AnswerSeconds = 15; // for a whole answer; the broker waits for its server for 10
    const int LargestAnswer = 262144; // bytes; the broker itself reads no larger ones
    const int LongestWait = 10; // seconds; who is told to come back later than that fails at once

    static readonly HttpClient Client = new HttpClient(new SocketsHttpHandler
    {
        ConnectCallback = (context, cancel) => ConnectAsync(cancel),
        UseProxy = false, // not even one of the environment
        AllowAutoRedirect = false,
        PooledConnectionLifetime = TimeSpan.Zero, // a connection for each request: none that a restart has broken
    })
    {
        BaseAddress = new Uri("http://localhost"),
        MaxResponseContentBufferSize = LargestAnswer,
        Timeout = TimeSpan.FromSeconds(AnswerSeconds),
    };

    /// <summary>Gives a usable token; rejected is the ETag of one that the API refused, or null.</summary>
    public static async Task<Token> GetTokenAsync(string name, string rejected = null)
    {
        if (!Regex.IsMatch(name, @"\A[a-z0-9][a-z0-9._-]{0,62}\z"))
            throw new BrokerException("bad_name", ": names have a-z, 0-9, \".\", \"_\" and \"-\"");
        for (int broken = 0, waited = 0; ;)
        {
            HttpResponseMessage answer;
            try
            {
                answer = await AskAsync(name, rejected);
            }
            catch (TaskCanceledException)
            {
                throw new BrokerException("unreachable", ": no answer in time");
            }
            catch (HttpRequestException error) when (error.InnerException is BrokerException)
            {
                throw error.InnerException;
            }
            catch (HttpRequestException error)
            {
                // It went away before it had answered (or its answer is too large): once more, and not for ever.
                if (++broken == 2) throw new BrokerException("unreachable", ": " + error.Message);
                continue;
            }
            using (answer)
            using (var document = JsonDocument.Parse(await answer.Content.ReadAsStringAsync()))
            {
                var body = document.RootElement;
                var status = (int)answer.StatusCode;
                if (status == 200)
                    return new Token
                    {
                        AccessToken = body.GetProperty("access_token").GetString(),
                        TokenType = body.GetProperty("token_type").GetString(),
                        ExpiresIn = body.GetProperty("expires_in").GetInt32(),
                        ETag = answer.Headers.ETag?.ToString(),
                    };
                var wait = answer.Headers.RetryAfter?.Delta ?? TimeSpan.FromSeconds(1);
                if ((status == 429 || status == 503) && waited < 2 && wait.TotalSeconds <= LongestWait)
                {
                    waited++; // not now: as long as it says
                    await Task.Delay(wait);
                    continue;
                }
                JsonElement hint;
                if (!body.TryGetProperty("hint", out hint)) hint = body.GetProperty("error_description");
                throw new BrokerException(body.GetProperty("error").GetString(), $" ({status}): {hint.GetString()}");
            }
        }
    }

    static async Task<HttpResponseMessage> AskAsync(string name, string rejected)
    {
        if (rejected == null) return await Client.GetAsync("/v1/tokens/" + name);
        var body = "{\"rejected\":" + JsonSerializer.Serialize(rejected) + "}";
        using (var content = new StringContent(body, Encoding.UTF8, "application/json"))
            return await Client.PostAsync("/v1/tokens/" + name + "/refresh", content);
    }

    static async ValueTask<Stream> ConnectAsync(CancellationToken cancel)
    {
        var place = Environment.GetEnvironmentVariable("TOKEN_BROKER_SOCKET") ?? "unix:///run/token-broker/api.sock";
        if (!place.StartsWith("unix:///", StringComparison.Ordinal))
            throw new BrokerException("bad_socket", ": TOKEN_BROKER_SOCKET has to be unix:///PATH");
        for (var attempt = 1; ; attempt++)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(place.Substring("unix://".Length)), cancel);
                return new NetworkStream(socket, ownsSocket: true);
            }
            catch (SocketException error) // nobody there: a broker that restarts is back within a second or so
            {
                socket.Dispose();
                if (attempt == 10) throw new BrokerException("unreachable", $": {place}: {error.SocketErrorCode}");
            }
            await Task.Delay(100, cancel);
        }
    }

    /// <summary>dotnet run -- [--print] NAME [ETAG of a rejected token].</summary>
    static async Task<int> Main(string[] arguments)
    {
        var words = arguments.Where(word => word != "--print").ToArray();
        try
        {
            var token = await GetTokenAsync(words.FirstOrDefault() ?? "", words.ElementAtOrDefault(1));
            Console.WriteLine($"token_type={token.TokenType} expires_in={token.ExpiresIn}");
            if (arguments.Contains("--print")) Console.WriteLine(token.AccessToken);
            return 0;
        }
        catch (BrokerException error)
        {
            Console.Error.WriteLine("token broker: " + error.Message);
            return 1;
        }
    }
}
