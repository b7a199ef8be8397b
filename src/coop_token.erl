%% The seq_trace token of a datum on a VM. The emulator gives a process the token
%% of the message that it took last, which for a process of a co-op is seldom the
%% one that it works at: it drains its mailbox, and keeps what it cannot send. So
%% it has no token but while its task works or something is sent; meanwhile each
%% datum's is in its envelope. On its way between processes the token is where the
%% emulator has it, and not in the envelope.
-module(coop_token).

-export([is_there/0]).
-export([take/0]).
-export([leave/0]).
-export([keep/2]).
-export([bare/1]).
-export([only/1]).
-export([resume/1]).
-export([send/3]).
-export([aside/1]).
-export_type([token/0]).

%% The last serial of this process, since the emulator has that with the token.
-define(CLOCK, '$coop_seq_trace').

-type token() :: {
    Flags :: integer(), Label :: term(), Serial :: integer(), From :: pid() | node(), integer()
}.

%% @doc Whether the caller has a token.
-spec is_there() -> boolean().
is_there() ->
    %% what seq_trace:get_token/1 is; the specification of that forgets []
    erlang:seq_trace_info(label) =/= [].

%% @doc The token that the caller has, and has no longer.
-spec take() -> [] | token().
take() ->
    case is_there() of
        true -> seq_trace:set_token([]);
        false -> []
    end.

%% @doc The same, at the end of what {@link resume/1} began.
-spec leave() -> [] | token().
leave() ->
    case take() of
        [] ->
            [];
        {_Flags, _Label, Serial, _From, _Last} = Token ->
            put(?CLOCK, Serial),
            Token
    end.

%% @doc With that token.
-spec keep(coop_process:env(), [] | token()) -> coop_process:env().
keep(Env, []) -> Env;
keep([], Token) -> #{token => Token};
keep(Env, Token) -> Env#{token => Token}.

%% @doc As it is sent.
-spec bare(coop_process:env()) -> coop_process:env().
bare(#{token := _} = Env) when map_size(Env) =:= 1 -> [];
bare(#{token := _} = Env) -> maps:remove(token, Env);
bare(Env) -> Env.

%% @doc The token alone.
-spec only(coop_process:env()) -> coop_process:env().
only(#{token := Token}) -> #{token => Token};
only(_Env) -> [].

%% @doc Makes its token the caller's, as if its message had just been taken. One
%% that a stranger has made up is none.
-spec resume(coop_process:env()) -> ok.
resume(#{token := Token}) ->
    Clock =
        case get(?CLOCK) of
            undefined -> 0;
            Last -> Last
        end,
    restore(Token, Clock);
resume(_Env) ->
    ok.

restore({Flags, Label, Serial, From, Last}, Clock) ->
    Previous =
        case From =:= self() of
            true -> Last;
            false -> Serial
        end,
    try seq_trace:set_token({Flags, Label, max(Serial, Clock), From, Previous}) of
        _ -> ok
    catch
        error:_ ->
            _ = seq_trace:set_token([]),
            ok
    end;
restore(_, _Clock) ->
    ok.

%% @doc A message that belongs to what has this envelope.
-spec send(pid() | {atom(), node()}, term(), coop_process:env()) -> ok.
send(To, Message, #{token := _} = Env) ->
    resume(Env),
    To ! Message,
    _ = leave(),
    ok;
send(To, Message, _Env) ->
    To ! Message,
    ok.

%% @doc Talk of our own, which is nobody's data and so no part of a trace.
-spec aside(fun(() -> Result)) -> Result.
aside(Fun) ->
    case take() of
        [] ->
            Fun();
        Token ->
            try
                Fun()
            after
                restore(Token, 0)
            end
    end.
