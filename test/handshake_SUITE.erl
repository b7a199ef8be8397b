%% The handshake, white box: a script at the other end of a running C-node's
%% socket (protocol.md, section 1). Whatever a stranger does, a real node is
%% served meanwhile.
-module(handshake_SUITE).

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_testcase/2, end_per_testcase/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2]).
-import(esp_test_dist, [
    open/1, dial/2, dial/3, raw/2, packet/1, name_packet/2, reply_packet/2, digest/2, status/1,
    challenge/1, is_closed/2, await_closed/1, stays/1, flags/0
]).

-define(C_NODE, 'hs_c@127.0.0.1').
%% ms; what a C-node here gives a handshake
-define(SETUPTIME, 400).
-define(LIMIT, 10_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_handshake_as_the_one_who_dials_works,
        a_peer_without_fragments_is_spoken_to_without_them,
        bytes_behind_the_handshake_are_the_first_frames,
        a_handshake_in_single_bytes_works,
        a_wrong_cookie_is_closed_without_a_word,
        a_challenge_is_never_the_same,
        a_handshake_cut_short_at_any_byte_is_closed,
        silence_after_any_byte_is_closed_at_the_setup_timeout,
        a_trickle_does_not_prolong_the_setup_timeout,
        oversize_packets_are_closed_at_once,
        packets_out_of_order_are_closed,
        missing_mandatory_flags_are_not_allowed,
        the_digest_of_25_stands_for_its_flags,
        unknown_flags_are_ignored,
        an_old_name_packet_is_not_allowed,
        names_that_are_none_are_not_allowed,
        our_own_name_is_not_allowed,
        a_node_that_asks_for_a_name_gets_one,
        alive_and_true_replaces_the_old_connection,
        alive_and_false_keeps_the_old_connection,
        alive_and_a_wrong_cookie_keeps_the_old_connection,
        sixty_four_pending_handshakes_keep_nobody_out_for_long,
        strangers_in_haste_leave_nothing,
        a_listener_is_dialled_and_spoken_to,
        a_listener_with_a_wrong_digest_is_hung_up_on,
        a_listener_of_another_name_is_hung_up_on,
        a_listener_that_says_nothing_is_given_up,
        a_listener_that_will_not_have_us_is_given_up,
        a_listener_that_thinks_us_alive_is_told_to_forget,
        of_two_dials_at_once_that_of_the_greater_name_wins
    ].

init_per_suite(Config) ->
    Started = esp_test_lib:start_app(),
    Talks = filename:join(filename:dirname(esp_test_lib:plugin()), "talks.so"),
    CNode = esp_test_dist:start_c_node(?C_NODE, [
        "--net-setuptime", integer_to_list(?SETUPTIME), "--plugin", Talks
    ]),
    [{started, Started}, {c_node, CNode} | Config].

end_per_suite(Config) ->
    ok = esp_test_dist:stop_c_node(c_node(Config)),
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

%% This VM stands for the real node: up before and after each case, and the
%% same C-node.
init_per_testcase(_, Config) ->
    true = net_kernel:hidden_connect_node(?C_NODE),
    monitor_node(?C_NODE, true),
    Config.

end_per_testcase(_, _Config) ->
    monitor_node(?C_NODE, false),
    pong = net_adm:ping(?C_NODE),
    receive
        {nodedown, ?C_NODE} -> {fail, {lost, ?C_NODE}}
    after 0 -> ok
    end.

c_node(Config) -> proplists:get_value(c_node, Config).

%% A name nobody has had.
name() ->
    list_to_atom(lists:concat(["hs", erlang:unique_integer([positive]), "@127.0.0.1"])).

%%% As the one who dials

a_handshake_as_the_one_who_dials_works(Config) ->
    CNode = #{creation := Creation} = c_node(Config),
    Peer = #{their_creation := Creation} = dial(CNode, name()),
    true = lists:member(maps:get(name, Peer), erpc:call(?C_NODE, erlang, nodes, [connected])),
    %% a dead process is noproc, linked to or monitored
    From = esp_test_dist:pid(Peer, 1),
    Nobody = esp_test_dist:no_pid(Peer),
    ok = esp_test_dist:send(Peer, {1, From, Nobody}),
    {{24, Nobody, From}, noproc} = esp_test_dist:next(Peer),
    Ref = esp_test_dist:ref(Peer, [1, 2, 3]),
    ok = esp_test_dist:send(Peer, {19, From, Nobody, Ref}),
    {{28, Nobody, From, Ref}, noproc} = esp_test_dist:next(Peer),
    ok = esp_test_dist:send(Peer, {19, From, no_such_name, Ref}),
    {{28, no_such_name, From, Ref}, noproc} = esp_test_dist:next(Peer),
    ok = esp_test_dist:close(Peer),
    eventually(forgotten, fun() ->
        not lists:member(maps:get(name, Peer), erpc:call(?C_NODE, erlang, nodes, [connected]))
    end).

a_peer_without_fragments_is_spoken_to_without_them(Config) ->
    %% neither FRAGMENTS nor EXIT_PAYLOAD: frames of 112 and op 3
    Peer = dial(c_node(Config), name(), #{flags => flags() band bnot 16#C00000}),
    From = esp_test_dist:pid(Peer, 1),
    Nobody = esp_test_dist:no_pid(Peer),
    ok = esp_test_dist:send(Peer, {1, From, Nobody}),
    {3, Nobody, From, noproc} = esp_test_dist:next(Peer),
    Ref = esp_test_dist:ref(Peer, [1]),
    ok = esp_test_dist:send(Peer, {19, From, Nobody, Ref}),
    {21, Nobody, From, Ref, noproc} = esp_test_dist:next(Peer),
    esp_test_dist:close(Peer).

%% Name and reply in one write are impossible; reply and the first frames are not.
bytes_behind_the_handshake_are_the_first_frames(Config) ->
    CNode = c_node(Config),
    Name = name(),
    Socket = open(CNode),
    ok = raw(Socket, packet(name_packet(Name, flags()))),
    <<"ok">> = status(Socket),
    {TheirFlags, Challenge, Creation, ?C_NODE} = challenge(Socket),
    Peer = #{
        socket => Socket, name => Name, creation => 77, flags => flags() band TheirFlags,
        their_name => ?C_NODE, their_creation => Creation
    },
    From = esp_test_dist:pid(Peer, 1),
    Nobody = esp_test_dist:no_pid(Peer),
    ok = raw(Socket, [
        packet(reply_packet(digest(erlang:get_cookie(), Challenge), 1)),
        esp_test_dist:frame(Peer, {1, From, Nobody})
    ]),
    <<$a, _:16/binary>> = esp_test_dist:read_packet(Socket),
    {{24, Nobody, From}, noproc} = esp_test_dist:next(Peer),
    esp_test_dist:close(Peer).

a_handshake_in_single_bytes_works(Config) ->
    Name = name(),
    Socket = open(c_node(Config)),
    ok = byte_by_byte(Socket, packet(name_packet(Name, flags()))),
    <<"ok">> = status(Socket),
    {_, Challenge, _, ?C_NODE} = challenge(Socket),
    ok = byte_by_byte(Socket, packet(reply_packet(digest(erlang:get_cookie(), Challenge), 1))),
    <<$a, _:16/binary>> = esp_test_dist:read_packet(Socket),
    gen_tcp:close(Socket).

byte_by_byte(Socket, Bytes) ->
    lists:foreach(fun(Byte) -> ok = raw(Socket, <<Byte>>) end, binary_to_list(Bytes)).

%%% Who may not

%% As far as the challenge; the rest is the case's.
knock(Config) -> knock(Config, name()).

knock(Config, Name) ->
    Socket = open(c_node(Config)),
    ok = raw(Socket, packet(name_packet(Name, flags()))),
    <<"ok">> = status(Socket),
    {_, Challenge, _, ?C_NODE} = challenge(Socket),
    {Socket, Challenge}.

a_wrong_cookie_is_closed_without_a_word(Config) ->
    [
        begin
            {Socket, Challenge} = knock(Config),
            ok = raw(Socket, packet(reply_packet(Digest(Challenge), 1))),
            closed = esp_test_dist:read_packet(Socket)
        end
     || Digest <- [
            fun(Challenge) -> digest(wrong, Challenge) end,
            fun(Challenge) -> digest('', Challenge) end,
            fun(Challenge) -> digest(erlang:get_cookie(), Challenge bxor 1) end,
            fun(_) -> <<0:128>> end,
            %% cut short
            fun(Challenge) -> binary:part(digest(erlang:get_cookie(), Challenge), 0, 15) end
        ]
    ].

a_challenge_is_never_the_same(Config) ->
    Challenges = [
        begin
            {Socket, Challenge} = knock(Config),
            ok = gen_tcp:close(Socket),
            Challenge
        end
     || _ <- lists:seq(1, 20)
    ],
    20 = length(lists:usort(Challenges)).

%% Both of our packets of a handshake, and what to read between them.
script(Name) ->
    {packet(name_packet(Name, flags())), fun(Challenge) ->
        packet(reply_packet(digest(erlang:get_cookie(), Challenge), 1))
    end}.

%% A connection on which that many bytes of a right handshake have been sent.
begun(CNode, Bytes) ->
    {First, Second} = script(name()),
    Socket = open(CNode),
    case Bytes - byte_size(First) of
        Fewer when Fewer < 0 ->
            ok = raw(Socket, binary:part(First, 0, Bytes));
        More ->
            ok = raw(Socket, First),
            <<"ok">> = status(Socket),
            {_, Challenge, _, _} = challenge(Socket),
            ok = raw(Socket, binary:part(Second(Challenge), 0, More))
    end,
    Socket.

%% All but the last one.
cuts() ->
    {First, Second} = script(name()),
    lists:seq(0, byte_size(First) + byte_size(Second(1)) - 1).

a_handshake_cut_short_at_any_byte_is_closed(Config) ->
    lists:foreach(
        fun(Bytes) ->
            Socket = begun(c_node(Config), Bytes),
            ok = gen_tcp:shutdown(Socket, write),
            closed = esp_test_dist:read_packet(Socket)
        end,
        cuts()
    ),
    esp_test_dist:close(dial(c_node(Config), name())).

silence_after_any_byte_is_closed_at_the_setup_timeout(Config) ->
    %% in two halves: there are fewer places for strangers than bytes
    {Some, Others} = lists:split(length(cuts()) div 2, cuts()),
    [silent(c_node(Config), Cuts) || Cuts <- [Some, Others]].

silent(CNode, Cuts) ->
    Started = erlang:monotonic_time(millisecond),
    Sockets = [begun(CNode, Bytes) || Bytes <- Cuts],
    lists:foreach(fun esp_test_dist:await_closed/1, [#{socket => S} || S <- Sockets]),
    Took = erlang:monotonic_time(millisecond) - Started,
    true = Took >= ?SETUPTIME - 50,
    true = Took < 10 * ?SETUPTIME.

a_trickle_does_not_prolong_the_setup_timeout(Config) ->
    {First, _} = script(name()),
    Socket = open(c_node(Config)),
    Started = erlang:monotonic_time(millisecond),
    ok = trickle(Socket, binary_to_list(First), ?SETUPTIME div 8),
    true = erlang:monotonic_time(millisecond) - Started < 5 * ?SETUPTIME.

trickle(Socket, [Byte | Bytes], Pause) ->
    _ = raw(Socket, <<Byte>>),
    case is_closed(Socket, Pause) of
        true -> ok;
        false -> trickle(Socket, Bytes, Pause)
    end.

oversize_packets_are_closed_at_once(Config) ->
    Text = binary:copy(<<"x">>, 2_000),
    Long = <<$N, (flags()):64, 77:32, 2_000:16, Text/binary>>,
    [
        begin
            Socket = open(c_node(Config)),
            ok = raw(Socket, Bytes),
            %% well before the setup timeout, and without a word
            Started = erlang:monotonic_time(millisecond),
            closed = esp_test_dist:read_packet(Socket),
            true = erlang:monotonic_time(millisecond) - Started < ?SETUPTIME
        end
     || Bytes <- [<<1_101:16>>, <<65_535:16>>, packet(Long)]
    ],
    {Socket, _} = knock(Config),
    ok = raw(Socket, <<1_101:16, $r>>),
    closed = esp_test_dist:read_packet(Socket),
    %% 1,100 are enough for any name, and for what a later release may add
    Name = name_packet(name(), flags()),
    Socket2 = open(c_node(Config)),
    ok = raw(Socket2, packet([Name, binary:copy(<<0>>, 1_100 - byte_size(Name))])),
    <<"ok">> = status(Socket2),
    gen_tcp:close(Socket2).

packets_out_of_order_are_closed(Config) ->
    Digest = digest(erlang:get_cookie(), 1),
    [
        begin
            Socket = open(c_node(Config)),
            ok = raw(Socket, packet(Packet)),
            closed = esp_test_dist:read_packet(Socket)
        end
     || Packet <- [
            <<>>,
            <<"sok">>,
            reply_packet(Digest, 1),
            [$a, Digest],
            <<$N>>,
            <<$N, (flags()):64, 77:32, 200:16, "short@127.0.0.1">>,
            <<131, 68, 0>>,
            <<255>>
        ]
    ],
    [
        begin
            {Socket, _} = knock(Config),
            ok = raw(Socket, packet(Packet)),
            closed = esp_test_dist:read_packet(Socket)
        end
     || Packet <- [<<>>, name_packet(name(), flags()), <<"strue">>, [$a, Digest], <<$r, 1:32>>]
    ].

missing_mandatory_flags_are_not_allowed(Config) ->
    Mandatory = [2, 4, 7, 8, 9, 10, 11, 16, 17, 18, 24],
    Digest = 1 bsl 26,
    [
        begin
            Socket = open(c_node(Config)),
            Flags = flags() band bnot Digest band bnot (1 bsl Bit),
            ok = raw(Socket, packet(name_packet(name(), Flags))),
            {Bit, <<"not_allowed">>} = {Bit, status(Socket)},
            closed = esp_test_dist:read_packet(Socket)
        end
     || Bit <- Mandatory
    ],
    Socket = open(c_node(Config)),
    ok = raw(Socket, packet(name_packet(name(), 0))),
    <<"not_allowed">> = status(Socket),
    closed = esp_test_dist:read_packet(Socket).

the_digest_of_25_stands_for_its_flags(Config) ->
    Peer = dial(c_node(Config), name(), #{flags => flags() band bnot 16#1070F94}),
    [] = stays(Peer),
    esp_test_dist:close(Peer).

unknown_flags_are_ignored(Config) ->
    Peer = dial(c_node(Config), name(), #{flags => flags() bor (1 bsl 63) bor (1 bsl 50)}),
    [] = stays(Peer),
    esp_test_dist:close(Peer).

an_old_name_packet_is_not_allowed(Config) ->
    Socket = open(c_node(Config)),
    ok = raw(Socket, packet(<<$n, 5:16, (flags()):32, "old@127.0.0.1">>)),
    <<"not_allowed">> = status(Socket),
    closed = esp_test_dist:read_packet(Socket).

names_that_are_none_are_not_allowed(Config) ->
    Long = <<(binary:copy(<<"x">>, 250))/binary, "@127.0.0.1">>,
    [
        begin
            Socket = open(c_node(Config)),
            ok = raw(Socket, packet(<<$N, (flags()):64, 7:32, (byte_size(Name)):16, Name/binary>>)),
            {Name, <<"not_allowed">>} = {Name, status(Socket)},
            closed = esp_test_dist:read_packet(Socket)
        end
     || Name <- [<<>>, <<"x">>, <<"@h">>, <<"x@">>, <<"x@y@z">>, <<"x", 255, "@h">>, <<"x", 0, "@h">>, Long]
    ].

our_own_name_is_not_allowed(Config) ->
    Socket = open(c_node(Config)),
    ok = raw(Socket, packet(name_packet(?C_NODE, flags()))),
    <<"not_allowed">> = status(Socket),
    closed = esp_test_dist:read_packet(Socket).

a_node_that_asks_for_a_name_gets_one(Config) ->
    Socket = open(c_node(Config)),
    Asking = (flags() bor (1 bsl 33)),
    ok = raw(Socket, packet(<<$N, Asking:64, 0:32, 9:16, "127.0.0.1">>)),
    <<"named:", Length:16, Name:Length/binary, Creation:32>> = status(Socket),
    [_, <<"127.0.0.1">>] = binary:split(Name, <<"@">>),
    true = Creation > 3,
    {_, Challenge, _, ?C_NODE} = challenge(Socket),
    ok = raw(Socket, packet(reply_packet(digest(erlang:get_cookie(), Challenge), 1))),
    <<$a, _:16/binary>> = esp_test_dist:read_packet(Socket),
    eventually(named, fun() ->
        lists:member(binary_to_atom(Name), erpc:call(?C_NODE, erlang, nodes, [connected]))
    end),
    gen_tcp:close(Socket).

%%% Who is there already

alive_and_true_replaces_the_old_connection(Config) ->
    Name = name(),
    Old = dial(c_node(Config), Name),
    Socket = open(c_node(Config)),
    ok = raw(Socket, packet(name_packet(Name, flags(), 78))),
    <<"alive">> = status(Socket),
    ok = raw(Socket, packet(<<"strue">>)),
    {_, Challenge, _, ?C_NODE} = challenge(Socket),
    %% nobody has proved anything yet
    [] = stays(Old),
    ok = raw(Socket, packet(reply_packet(digest(erlang:get_cookie(), Challenge), 1))),
    <<$a, _:16/binary>> = esp_test_dist:read_packet(Socket),
    ok = await_closed(Old),
    [] = stays(Old#{socket => Socket, creation => 78}),
    gen_tcp:close(Socket).

name_packet(Name, Flags, Creation) -> esp_test_dist:name_packet(Name, Flags, Creation).

alive_and_false_keeps_the_old_connection(Config) ->
    Name = name(),
    Old = dial(c_node(Config), Name),
    [
        begin
            Socket = open(c_node(Config)),
            ok = raw(Socket, packet(name_packet(Name, flags()))),
            <<"alive">> = status(Socket),
            ok = raw(Socket, packet(Answer)),
            closed = esp_test_dist:read_packet(Socket),
            [] = stays(Old)
        end
     || Answer <- [<<"sfalse">>, <<"smaybe">>, <<>>, reply_packet(<<0:128>>, 1)]
    ],
    esp_test_dist:close(Old).

alive_and_a_wrong_cookie_keeps_the_old_connection(Config) ->
    Name = name(),
    Old = dial(c_node(Config), Name),
    Socket = open(c_node(Config)),
    ok = raw(Socket, packet(name_packet(Name, flags()))),
    <<"alive">> = status(Socket),
    ok = raw(Socket, packet(<<"strue">>)),
    {_, Challenge, _, ?C_NODE} = challenge(Socket),
    ok = raw(Socket, packet(reply_packet(digest(wrong, Challenge), 1))),
    closed = esp_test_dist:read_packet(Socket),
    [] = stays(Old),
    %% nor can a stranger say that this VM is another
    Socket2 = open(c_node(Config)),
    ok = raw(Socket2, packet(name_packet(node(), flags()))),
    <<"alive">> = status(Socket2),
    ok = raw(Socket2, packet(<<"strue">>)),
    {_, _, _, ?C_NODE} = challenge(Socket2),
    gen_tcp:close(Socket2),
    esp_test_dist:close(Old).

%%% Many

sixty_four_pending_handshakes_keep_nobody_out_for_long(Config) ->
    Sockets = [begun(c_node(Config), 10) || _ <- lists:seq(1, 64)],
    %% one more is refused at once: its setup timeout has hardly begun
    Socket = open(c_node(Config)),
    _ = raw(Socket, packet(name_packet(name(), flags()))),
    true = is_closed(Socket, ?SETUPTIME div 2),
    %% who is connected is served
    pong = net_adm:ping(?C_NODE),
    [{ok, ?C_NODE}] = lists:usort(erpc:multicall(lists:duplicate(500, ?C_NODE), erlang, node, [])),
    lists:foreach(fun esp_test_dist:await_closed/1, [#{socket => S} || S <- Sockets]),
    Peer = dial(c_node(Config), name()),
    [] = stays(Peer),
    esp_test_dist:close(Peer).

strangers_in_haste_leave_nothing(Config) ->
    CNode = #{os_pid := OsPid} = c_node(Config),
    Open = fun() ->
        {ok, Files} = file:list_dir("/proc/" ++ integer_to_list(OsPid) ++ "/fd"),
        length(Files)
    end,
    pong = net_adm:ping(?C_NODE),
    Before = Open(),
    lists:foreach(
        fun(I) ->
            Socket = open(CNode),
            _ = raw(Socket, odd_bytes(I)),
            %% a reset as often as an end
            ok = inet:setopts(Socket, [{linger, {I rem 2 =:= 0, 0}}]),
            ok = gen_tcp:close(Socket)
        end,
        lists:seq(1, 500)
    ),
    eventually(sockets_closed, fun() -> Open() =< Before orelse {Open(), Before} end),
    esp_test_dist:close(dial(CNode, name())).

%% Bytes that differ from call to call and are the same in each run.
odd_bytes(I) ->
    Bytes = erlang:md5(<<I:32>>),
    binary:part(<<Bytes/binary, Bytes/binary>>, 0, I rem 33).

%%% As the one who is dialled

%% The C-node calls a pid of the listener's, and so dials it. The co-op's
%% receiver, this process, gets what came of the call.
made_to_dial(#{name := Name, creation := Creation}) ->
    Template = coop_flow:pipeline([coop:native(talk, talks, talk, #{})]),
    {ok, Coop} = coop:start_link(Template, #{node => ?C_NODE, receiver => self(), tag => said}),
    ok = coop:relay_data(Coop, {call, esp_test_dist:pid_at(Name, 9, Creation), hello}),
    Coop.

outcome(Coop) ->
    receive
        {said, Outcome} ->
            ok = coop:stop(Coop),
            Outcome
    after ?LIMIT -> ct:fail({waited_in_vain_for, outcome})
    end.

a_listener_is_dialled_and_spoken_to(_) ->
    Listener = esp_test_dist:listen(name()),
    Coop = made_to_dial(Listener),
    Peer = #{their_name := ?C_NODE} = esp_test_dist:welcome(Listener, esp_test_dist:accept(Listener)),
    To = esp_test_dist:pid_at(maps:get(name, Peer), 9, maps:get(creation, Peer)),
    {19, From, To, _Ref} = esp_test_dist:next(Peer),
    {{Op, From, To}, {'$gen_call', {From, Tag}, hello}} = esp_test_dist:next(Peer),
    true = Op =:= 22,
    case Tag of
        [alias | Alias] -> ok = esp_test_dist:send(Peer, {33, To, Alias}, {Tag, hallo});
        _ -> ok = esp_test_dist:send(Peer, {22, To, From}, {Tag, hallo})
    end,
    {ok, hallo} = outcome(Coop),
    esp_test_dist:close(Peer),
    esp_test_dist:unlisten(Listener).

%% What the listener does wrong; then the connection is closed, and whoever
%% waited for it hears so.
hung_up_on(Act) ->
    Listener = esp_test_dist:listen(name()),
    Coop = made_to_dial(Listener),
    Socket = esp_test_dist:accept(Listener),
    {_, _, ?C_NODE} = esp_test_dist:take_name(Socket),
    ok = Act(Socket, Listener),
    true = is_closed(Socket, 10 * ?SETUPTIME),
    {error, noconnection, _} = outcome(Coop),
    esp_test_dist:unlisten(Listener).

asks(Socket, #{name := Name, creation := Creation}) ->
    Text = atom_to_binary(Name),
    ok = raw(Socket, packet(<<"sok">>)),
    raw(Socket, packet(<<$N, (flags()):64, 5:32, Creation:32, (byte_size(Text)):16, Text/binary>>)).

a_listener_with_a_wrong_digest_is_hung_up_on(_) ->
    hung_up_on(fun(Socket, Listener) ->
        ok = asks(Socket, Listener),
        Proof = digest(erlang:get_cookie(), 5),
        <<$r, Challenge:32, Proof:16/binary>> = esp_test_dist:read_packet(Socket),
        raw(Socket, packet([$a, digest(wrong, Challenge)]))
    end).

a_listener_of_another_name_is_hung_up_on(_) ->
    hung_up_on(fun(Socket, Listener) -> asks(Socket, Listener#{name => name()}) end).

a_listener_that_says_nothing_is_given_up(_) ->
    hung_up_on(fun(_Socket, _Listener) -> ok end),
    hung_up_on(fun(Socket, _Listener) -> raw(Socket, packet(<<"sok">>)) end).

a_listener_that_will_not_have_us_is_given_up(_) ->
    hung_up_on(fun(Socket, _Listener) -> raw(Socket, packet(<<"snot_allowed">>)) end),
    hung_up_on(fun(Socket, _Listener) -> raw(Socket, packet(<<"swhatever">>)) end),
    %% it says that it dials itself, and does not
    hung_up_on(fun(Socket, _Listener) -> raw(Socket, packet(<<"snok">>)) end),
    hung_up_on(fun(Socket, Listener) ->
        Text = atom_to_binary(maps:get(name, Listener)),
        ok = raw(Socket, packet(<<"sok">>)),
        raw(Socket, packet(<<$N, 0:64, 5:32, 1:32, (byte_size(Text)):16, Text/binary>>))
    end).

a_listener_that_thinks_us_alive_is_told_to_forget(_) ->
    hung_up_on(fun(Socket, _Listener) ->
        ok = raw(Socket, packet(<<"salive">>)),
        <<"true">> = status(Socket),
        gen_tcp:shutdown(Socket, write)
    end).

of_two_dials_at_once_that_of_the_greater_name_wins(Config) ->
    %% ours is greater: theirs is given up, what waited for it goes our way
    Greater = esp_test_dist:listen('zz_greater@127.0.0.1'),
    Coop = made_to_dial(Greater),
    Theirs = esp_test_dist:accept(Greater),
    {_, _, ?C_NODE} = esp_test_dist:take_name(Theirs),
    Ours = open(c_node(Config)),
    ok = raw(Ours, packet(name_packet('zz_greater@127.0.0.1', flags(), maps:get(creation, Greater)))),
    <<"ok_simultaneous">> = status(Ours),
    true = is_closed(Theirs, ?LIMIT),
    {_, Challenge, TheirCreation, ?C_NODE} = challenge(Ours),
    ok = raw(Ours, packet(reply_packet(digest(erlang:get_cookie(), Challenge), 1))),
    <<$a, _:16/binary>> = esp_test_dist:read_packet(Ours),
    Peer = Greater#{
        socket => Ours, flags => flags(), their_name => ?C_NODE, their_creation => TheirCreation
    },
    {19, _, _, _} = esp_test_dist:next(Peer),
    {_, {'$gen_call', _, hello}} = esp_test_dist:next(Peer),
    ok = gen_tcp:close(Ours),
    {error, noconnection, _} = outcome(Coop),
    esp_test_dist:unlisten(Greater),
    %% theirs is greater: we are told so
    Lesser = esp_test_dist:listen('aa_lesser@127.0.0.1'),
    Coop2 = made_to_dial(Lesser),
    Theirs2 = esp_test_dist:accept(Lesser),
    {_, _, ?C_NODE} = esp_test_dist:take_name(Theirs2),
    Ours2 = open(c_node(Config)),
    ok = raw(Ours2, packet(name_packet('aa_lesser@127.0.0.1', flags()))),
    <<"nok">> = status(Ours2),
    closed = esp_test_dist:read_packet(Ours2),
    ok = gen_tcp:close(Theirs2),
    {error, noconnection, _} = outcome(Coop2),
    esp_test_dist:unlisten(Lesser).
