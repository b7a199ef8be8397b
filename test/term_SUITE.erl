%% The walk over the external format, held against a real node (protocol,
%% section 5): etf_verdict must say of every input what
%% binary_to_term/1 does. Inputs come from prop_term, in batches.
%%
%% The real node is a peer without distribution (so it is nonode@nohost), new
%% for every few ten thousand inputs: spoilt terms fill its atom table, and a
%% malformed closure may bring OTP 25 down. If the peer dies, the batch is
%% asked again one by one of fresh peers, and what kills one is written to the
%% log and counted; more than a handful fails the case.
%%
%% ESP_TERM_INPUTS in the environment asks for more than the usual 100,000.
-module(term_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([init_per_suite/1]).
-export([end_per_suite/1]).

-export([a_term_that_a_node_writes_is_accepted_as_the_node_does/1]).
-export([a_spoilt_term_is_judged_as_the_node_does/1]).
-export([every_tag_alone_and_cut_short/1]).
-export([a_list_of_many_conses_and_a_deep_tuple_are_terms/1]).
-export([a_frame_is_answered_as_soon_as_it_is_whole/1]).

%% for the peer
-export([ask_here/1]).
-export([ask_and_count/1]).

-define(BATCH, 500).
-define(LIMIT, 60_000).

all() ->
    [
        every_tag_alone_and_cut_short,
        a_list_of_many_conses_and_a_deep_tuple_are_terms,
        a_frame_is_answered_as_soon_as_it_is_whole,
        a_term_that_a_node_writes_is_accepted_as_the_node_does,
        a_spoilt_term_is_judged_as_the_node_does
    ].

init_per_suite(Config) ->
    [{etf_verdict, find_verdict()} | Config].

end_per_suite(_Config) ->
    ok.

%%% cases

a_term_that_a_node_writes_is_accepted_as_the_node_does(Config) ->
    compare(prop_term:written(?BATCH), Config).

a_spoilt_term_is_judged_as_the_node_does(Config) ->
    compare(prop_term:spoilt(?BATCH), Config).

every_tag_alone_and_cut_short(Config) ->
    Whole = [
        term_to_binary(T, [{minor_version, V}])
     || V <- [0, 1, 2],
        T <- [1, 1000, 1 bsl 70, -(1 bsl 3000), 1.5, a, 'å', [], "abc", [a | b], {a, 1}, #{a => 1},
              <<"abc">>, <<5:3>>, self(), make_ref(), hd(erlang:ports()), fun lists:map/2,
              fun() -> Config end]
    ],
    Cut = [binary:part(B, 0, N) || B <- Whole, N <- lists:seq(0, min(300, byte_size(B)))],
    Tags = [<<131, T, Rest/binary>> || T <- lists:seq(0, 255), Rest <- rests()],
    agree(Whole ++ Cut ++ Tags, Config).

rests() ->
    [
        <<>>,
        <<0>>,
        <<0:64>>,
        <<0:400>>,
        <<0, 0, 0, 1, 97, 1, 106, 0:400>>,
        <<0, 1, 119, 1, $a, 0:400>>,
        <<0, 0, 119, 1, $a, 1:32, 0:400>>,
        <<119, 1, $a, 0:400>>,
        <<255:8, 0:4000>>
    ].

%% List tails do not count as depth, and depth has no limit here.
a_list_of_many_conses_and_a_deep_tuple_are_terms(Config) ->
    N = 200_000,
    Conses = iolist_to_binary([131, lists:duplicate(N, <<108, 1:32, 97, 1>>), 106]),
    Deep = iolist_to_binary([131, lists:duplicate(N, <<104, 1>>), 106]),
    Open = iolist_to_binary([131, lists:duplicate(N, <<104, 1>>)]),
    ?assertEqual("110", verdicts([Conses, Deep, Open], Config)),
    agree([Conses, Deep, Open], Config).

a_frame_is_answered_as_soon_as_it_is_whole(Config) ->
    Port = open(Config, []),
    <<Front:6/binary, Back/binary>> = iolist_to_binary(frame(term_to_binary({a, b}))),
    true = port_command(Port, [frame(<<131, 106>>), Front]),
    ?assertEqual("1", collect(Port, 1, [])),
    true = port_command(Port, Back),
    ?assertEqual("1", collect(Port, 1, [])),
    true = port_command(Port, [frame(<<>>), frame(<<131>>)]),
    ?assertEqual("00", collect(Port, 2, [])),
    true = port_close(Port).

%%% both sides

compare(Generator, Config) ->
    Wanted = list_to_integer(os:getenv("ESP_TERM_INPUTS", "100000")),
    Batches = (Wanted + ?BATCH - 1) div ?BATCH,
    put(crashes, 0),
    put(past_the_end, 0),
    put(accepted, 0),
    Property = proper:forall(Generator, fun(Inputs) ->
        {Accepted, Wrong} = judge(Inputs, Config),
        put(accepted, get(accepted) + Accepted),
        put(wrong, Wrong),
        Wrong =:= []
    end),
    Started = erlang:monotonic_time(millisecond),
    Result = proper:quickcheck(Property, [quiet, noshrink, {numtests, Batches}, {max_size, 30}]),
    stop_peer(),
    ct:pal(
        "~b inputs, ~b of them terms, ~b that ended the real node, "
        "~b that it read past the end of, ~b ms",
        [
            Batches * ?BATCH, get(accepted), get(crashes), get(past_the_end),
            erlang:monotonic_time(millisecond) - Started
        ]
    ),
    ?assertEqual([], get(wrong)),
    ?assertEqual(true, Result),
    ?assertEqual(true, get(crashes) =< 10),
    ?assertEqual(true, get(past_the_end) * 1000 =< Batches * ?BATCH),
    %% neither side may be all yes or all no
    ?assertEqual(true, get(accepted) > 0 andalso get(accepted) < Batches * ?BATCH).

agree(Inputs, Config) ->
    put(crashes, 0),
    put(past_the_end, 0),
    {_, Wrong} = judge(Inputs, Config),
    stop_peer(),
    ?assertEqual([], Wrong),
    ?assertEqual(0, get(crashes)).

%% How many are terms to us, and where the node sees it otherwise:
%% {what the node says, what we say, the input}.
judge(Inputs, Config) ->
    Real = ask_node(Inputs),
    Ours = verdicts(Inputs, Config),
    Wrong = [
        {R, O, B}
     || {R, O, B} <- lists:zip3(Real, Ours, Inputs), R =/= O, not agrees_at_last(R, B, Config)
    ],
    {length([yes || $1 <- Ours]), Wrong}.

%% Internal atom numbers (tags 73, 75) are good or not by how many atoms the
%% node has, and that grows: ask both again, with the number of now. It is asked
%% for with the verdict: the next call may start another node, with fewer.
agrees_at_last(crash, _Bytes, _Config) ->
    put(crashes, get(crashes) + 1),
    true;
agrees_at_last(_, Bytes, Config) ->
    {Real, Atoms} = peer:call(peer(), ?MODULE, ask_and_count, [Bytes], ?LIMIT),
    Port = open(Config, ["--atoms", integer_to_list(Atoms)]),
    true = port_command(Port, frame(Bytes)),
    Ours = collect(Port, 1, []),
    true = port_close(Port),
    Real =:= Ours orelse is_read_past_the_end(Bytes, Config)
        orelse is_otherwise_since(Real, Ours, Bytes).

%% Ours are the rules of OTP 25. Later ones refuse a bit string of no bytes, and funs
%% that have become odder, each of which has the tag's byte; they take wider pids
%% and references of a node without a name, and 0.0 and -0.0 as keys of one map.
is_otherwise_since("0", "1", Bytes) ->
    erlang:system_info(otp_release) > "25" andalso
        [T || <<T>> <= inflated(Bytes), T =:= 77 orelse T =:= 112] =/= [];
is_otherwise_since("1", "0", Bytes) ->
    erlang:system_info(otp_release) > "25" andalso
        binary:match(inflated(Bytes), [<<"nonode@nohost">>, <<$F, 1:1, 0:63>>]) =/= nomatch;
is_otherwise_since(_, _, _) ->
    false.

inflated(<<131, 80, _:32, Stream/binary>>) -> iolist_to_binary(zlib:uncompress(Stream));
inflated(Bytes) -> Bytes.

%% OTP 25 reads a first word even of a reference without words, and so past the
%% end of such an input: its verdict is one on bytes that are not there. They
%% count, and with bytes that are there we must agree.
is_read_past_the_end(Bytes, Config) ->
    Longer = [longer(Bytes, More) || More <- [<<0:64>>, <<-1:64>>]],
    case ask_node(Longer) of
        [Same, Same] ->
            false;
        Real ->
            put(past_the_end, get(past_the_end) + 1),
            Real =:= verdicts(Longer, Config)
    end.

longer(<<131, 80, _:32, Stream/binary>>, More) ->
    Plain = iolist_to_binary(zlib:uncompress(Stream)),
    Size = byte_size(Plain) + byte_size(More),
    <<131, 80, Size:32, (zlib:compress(<<Plain/binary, More/binary>>))/binary>>;
longer(Bytes, More) ->
    <<Bytes/binary, More/binary>>.

verdicts(Inputs, Config) ->
    Port =
        case get(verdict_port) of
            undefined -> open(Config, []);
            Known -> Known
        end,
    put(verdict_port, Port),
    true = port_command(Port, [frame(B) || B <- Inputs]),
    collect(Port, length(Inputs), []).

open(Config, Args) ->
    open_port({spawn_executable, ?config(etf_verdict, Config)}, [binary, exit_status, {args, Args}]).

frame(Bytes) ->
    [<<(byte_size(Bytes)):32>>, Bytes].

collect(_Port, 0, Acc) ->
    lists:append(lists:reverse(Acc));
collect(Port, N, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, N - byte_size(Data), [binary_to_list(Data) | Acc]);
        {Port, {exit_status, Status}} -> ct:fail({etf_verdict_ended, Status})
    after ?LIMIT -> ct:fail({waited_in_vain_for, verdicts, N})
    end.

%%% the real node

ask_node(Inputs) ->
    Peer = peer(),
    try
        peer:call(Peer, ?MODULE, ask_here, [Inputs], ?LIMIT)
    catch
        _:_ when length(Inputs) > 1 ->
            stop_peer(),
            lists:append([ask_node([B]) || B <- Inputs]);
        _:Reason ->
            stop_peer(),
            ct:pal("ended the real node with ~p: ~p", [Reason, Inputs]),
            [crash]
    end.

ask_here(Inputs) ->
    [
        try binary_to_term(B) of
            _ -> $1
        catch
            error:_ -> $0
        end
     || B <- Inputs
    ].

ask_and_count(Bytes) ->
    Before = erlang:system_info(atom_count),
    Verdict = ask_here([Bytes]),
    case erlang:system_info(atom_count) of
        Before -> {Verdict, Before};
        _ -> ask_and_count(Bytes)
    end.

peer() ->
    case get(peer) of
        {Peer, Left} when Left > 0 ->
            put(peer, {Peer, Left - 1}),
            Peer;
        _ ->
            stop_peer(),
            {ok, Peer, nonode@nohost} = peer:start(#{
                connection => standard_io,
                %% by its path: what started this node need not be called erl
                exec => filename:join([code:root_dir(), "bin", "erl"]),
                args => ["-pa", filename:dirname(code:which(?MODULE))]
            }),
            put(peer, {Peer, 40}),
            Peer
    end.

stop_peer() ->
    case erase(peer) of
        undefined ->
            ok;
        {Peer, _} ->
            try
                peer:stop(Peer)
            catch
                _:_ -> ok
            end
    end.

%%% etf_verdict: ESP_BUILD_DIR names the build folder, as tools/ct does; else it
%% is where `make native` builds, above this beam or the current directory.

find_verdict() ->
    Folders =
        [F || F <- [os:getenv("ESP_BUILD_DIR"), os:getenv("ESP_BUILD")], F =/= false] ++
            above(filename:dirname(code:which(?MODULE))) ++
            above(element(2, file:get_cwd())),
    Places = [filename:join(F, "etf_verdict") || F <- Folders],
    case lists:filter(fun filelib:is_regular/1, Places) of
        [Path | _] -> filename:absname(Path);
        [] -> ct:fail({no_etf_verdict_in, Places})
    end.

above("/") -> [];
above(Folder) -> [filename:join(Folder, "_build/native") | above(filename:dirname(Folder))].
