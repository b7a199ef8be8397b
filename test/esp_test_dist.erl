%% The other end of a connection, as a script: speaks the distribution protocol
%% over gen_tcp, right or wrong, in either role. A C-node to talk to is started
%% here as well, by hand rather than by an owner, so that it has no peer that
%% the test did not give it.
%%
%% A peer is a map; the process that made it owns the socket.
-module(esp_test_dist).

%% C-nodes
-export([start_c_node/1, start_c_node/2, stop_c_node/1, kill_c_node/1]).
-export([memory/1, name/1, environment/0]).
%% handshakes
-export([flags/0, open/1, call_in/2, dial/2, dial/3]).
-export([name_packet/2, name_packet/3, reply_packet/2, digest/2, packet/1]).
-export([read_packet/1, status/1, challenge/1]).
-export([listen/1, listen/2, unlisten/1, accept/1, take_name/1, welcome/2]).
%% frames
-export([raw/2, send/2, send/3, frame/2, frame/3, bare/1, fragments/3, tick/1]).
-export([next/1, next/2, await_closed/1, is_closed/2, stays/1, close/1]).
%% identifiers
-export([pid/2, pid_at/3, theirs/2, stale/2, ref/2, no_pid/1]).

-define(LIMIT, 10_000).
%% what OTP 25 offers, hidden and without an atom cache: protocol.md, section 2
-define(FLAGS, 16#D07DF5FBC).
-define(FRAGMENTS, 16#800000).

%%% C-nodes

%% Its own process group of one: no owner, the cookie of this VM on stdin.
start_c_node(Name) -> start_c_node(Name, []).

%% Whoever asks, the C-node lives until stop_c_node/1: its port's owner is a
%% process of its own.
start_c_node(Name, Args) ->
    Self = self(),
    {Keeper, Ref} = spawn_monitor(fun() -> keeper(Self, Name, Args) end),
    receive
        {Keeper, CNode} ->
            demonitor(Ref, [flush]),
            CNode;
        {'DOWN', Ref, process, _, Reason} ->
            ct:fail({c_node_not_started, Reason})
    after ?LIMIT -> ct:fail({waited_in_vain_for, ready})
    end.

keeper(Parent, Name, Args) ->
    Port = open_port({spawn_executable, os:getenv("ESP_NODE_BINARY")}, [
        {args, ["--name", atom_to_list(Name) | Args]}, {env, environment()}, {line, 4096},
        exit_status, stderr_to_stdout, binary
    ]),
    true = port_command(Port, [atom_to_list(erlang:get_cookie()), $\n]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    {Creation, Listening} = await_ready(Port, []),
    Parent ! {self(), #{
        keeper => self(), name => Name, os_pid => OsPid, creation => Creation, port => Listening
    }},
    keep(Port).

%% What the sanitizer keeps of freed memory is not the C-node's.
environment() ->
    [{"ASAN_OPTIONS", os:getenv("ASAN_OPTIONS", "") ++ ":quarantine_size_mb=4"}].

await_ready(Port, Said) ->
    receive
        {Port, {data, {eol, <<"ready ", Line/binary>>}}} ->
            [_, Creation, Listening] = binary:split(Line, <<" ">>, [global]),
            {binary_to_integer(Creation), binary_to_integer(Listening)};
        {Port, {data, {_, Line}}} ->
            await_ready(Port, [Line | Said]);
        {Port, {exit_status, Status}} ->
            exit({exit_status, Status, lists:reverse(Said)})
    end.

keep(Port) ->
    receive
        {Port, {data, _}} ->
            keep(Port);
        {Port, {exit_status, Status}} ->
            ended(Status);
        {end_of_input, From} ->
            From ! {self(), close_port(Port)}
    end.

%% The C-node may have ended just now: its status came behind the request.
close_port(Port) ->
    try port_close(Port) of
        true -> closed
    catch
        error:badarg ->
            receive
                {Port, {exit_status, Status}} -> {ended, Status}
            end
    end.

ended(Status) ->
    receive
        {end_of_input, From} -> From ! {self(), {ended, Status}}
    end.

%% A C-node that has ended by itself is a failure, whatever else went well.
stop_c_node(#{keeper := Keeper, os_pid := OsPid, name := Name}) ->
    Keeper ! {end_of_input, self()},
    receive
        {Keeper, closed} -> ok;
        {Keeper, {ended, Status}} -> ct:fail({Name, ended_with, Status})
    after ?LIMIT -> ct:fail({waited_in_vain_for, Keeper})
    end,
    gone(OsPid).

kill_c_node(#{keeper := Keeper, os_pid := OsPid}) ->
    [] = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    Keeper ! {end_of_input, self()},
    receive
        {Keeper, _} -> gone(OsPid)
    after ?LIMIT -> ct:fail({waited_in_vain_for, Keeper})
    end.

gone(OsPid) ->
    Proc = "/proc/" ++ integer_to_list(OsPid),
    esp_test_lib:eventually(c_node_gone, fun() -> not filelib:is_dir(Proc) end).

name(#{name := Name}) -> Name.

%% Resident, in bytes.
memory(#{os_pid := OsPid}) ->
    {ok, Status} = file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/status"),
    {match, [KiB]} = re:run(Status, "VmRSS:\\s*(\\d+) kB", [{capture, all_but_first, list}]),
    list_to_integer(KiB) * 1024.

%%% Handshakes, as the one who dials

flags() -> ?FLAGS.

%% A connection that has not said anything.
open(#{port := Port}) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [
        binary, {active, false}, {nodelay, true}, {packet, raw}
    ]),
    Socket.

dial(CNode, Name) -> dial(CNode, Name, #{}).

%% The whole handshake. Options: flags, creation, cookie.
dial(CNode, Name, Options) ->
    Socket = open(CNode),
    call_in(Socket, Options#{c_node => CNode, name => Name}).

call_in(Socket, Options = #{c_node := #{name := TheirName}, name := Name}) ->
    Creation = maps:get(creation, Options, 77),
    Flags = maps:get(flags, Options, ?FLAGS),
    Cookie = maps:get(cookie, Options, erlang:get_cookie()),
    ok = raw(Socket, packet(name_packet(Name, Flags, Creation))),
    ok = replace_old(Socket, status(Socket)),
    {TheirFlags, Challenge, TheirCreation, TheirName} = challenge(Socket),
    ok = raw(Socket, packet(reply_packet(digest(Cookie, Challenge), 4711))),
    Expected = digest(Cookie, 4711),
    <<$a, Expected:16/binary>> = read_packet(Socket),
    peer(Socket, Name, Creation, Flags band TheirFlags, TheirName, TheirCreation).

replace_old(_Socket, <<"ok">>) -> ok;
replace_old(Socket, <<"alive">>) -> raw(Socket, packet(<<"strue">>)).

peer(Socket, Name, Creation, Flags, TheirName, TheirCreation) ->
    #{
        socket => Socket,
        name => Name,
        creation => Creation,
        flags => Flags,
        their_name => TheirName,
        their_creation => TheirCreation
    }.

name_packet(Name, Flags) -> name_packet(Name, Flags, 77).

name_packet(Name, Flags, Creation) ->
    Text = atom_to_binary(Name),
    <<$N, Flags:64, Creation:32, (byte_size(Text)):16, Text/binary>>.

reply_packet(Digest, Challenge) -> <<$r, Challenge:32, Digest/binary>>.

digest(Cookie, Challenge) ->
    erlang:md5([atom_to_list(Cookie), integer_to_list(Challenge)]).

packet(Body) -> <<(iolist_size(Body)):16, (iolist_to_binary(Body))/binary>>.

read_packet(Socket) ->
    case gen_tcp:recv(Socket, 2, ?LIMIT) of
        {ok, <<Length:16>>} ->
            {ok, Body} = gen_tcp:recv(Socket, Length, ?LIMIT),
            Body;
        {error, Reason} ->
            Reason
    end.

status(Socket) ->
    case read_packet(Socket) of
        <<$s, Status/binary>> -> Status;
        Other -> Other
    end.

challenge(Socket) ->
    <<$N, Flags:64, Challenge:32, Creation:32, Length:16, Name:Length/binary, _/binary>> =
        read_packet(Socket),
    {Flags, Challenge, Creation, binary_to_atom(Name)}.

%%% Handshakes, as the one who is dialled

listen(Name) -> listen(Name, epmd_port()).

%% Registered with epmd as a hidden node.
listen(Name, EpmdPort) ->
    {ok, Listening} = gen_tcp:listen(0, [
        binary, {active, false}, {packet, raw}, {ip, {127, 0, 0, 1}}, {nodelay, true}
    ]),
    {ok, Port} = inet:port(Listening),
    [Alive, _] = string:split(atom_to_list(Name), "@"),
    {ok, Epmd} = gen_tcp:connect({127, 0, 0, 1}, EpmdPort, [binary, {active, false}]),
    Request = <<120, Port:16, 72, 0, 6:16, 6:16, (length(Alive)):16, (list_to_binary(Alive))/binary, 0:16>>,
    ok = gen_tcp:send(Epmd, packet(Request)),
    {ok, <<118, 0, Creation:32>>} = gen_tcp:recv(Epmd, 6, ?LIMIT),
    #{listening => Listening, epmd => Epmd, name => Name, creation => Creation}.

epmd_port() ->
    list_to_integer(os:getenv("ERL_EPMD_PORT", "4369")).

unlisten(#{listening := Listening, epmd := Epmd}) ->
    ok = gen_tcp:close(Listening),
    ok = gen_tcp:close(Epmd).

%% Somebody who dials; has not been read from.
accept(#{listening := Listening}) ->
    {ok, Socket} = gen_tcp:accept(Listening, ?LIMIT),
    Socket.

take_name(Socket) ->
    <<$N, Flags:64, Creation:32, Length:16, Name:Length/binary, _/binary>> = read_packet(Socket),
    {Flags, Creation, binary_to_atom(Name)}.

%% Our part of a handshake that they began.
welcome(#{name := Name, creation := Creation}, Socket) ->
    {Flags, TheirCreation, TheirName} = take_name(Socket),
    Text = atom_to_binary(Name),
    ok = raw(Socket, packet(<<"sok">>)),
    ok = raw(Socket, packet(<<$N, ?FLAGS:64, 815:32, Creation:32, (byte_size(Text)):16, Text/binary>>)),
    Proof = digest(erlang:get_cookie(), 815),
    <<$r, Challenge:32, Proof:16/binary>> = read_packet(Socket),
    ok = raw(Socket, packet([$a, digest(erlang:get_cookie(), Challenge)])),
    peer(Socket, Name, Creation, Flags band ?FLAGS, TheirName, TheirCreation).

%%% Frames

raw(#{socket := Socket}, Bytes) -> gen_tcp:send(Socket, Bytes);
raw(Socket, Bytes) -> gen_tcp:send(Socket, Bytes).

send(Peer, Control) -> raw(Peer, frame(Peer, Control)).
send(Peer, Control, Payload) -> raw(Peer, frame(Peer, Control, Payload)).

frame(Peer, Control) ->
    signal(Peer, [bare(Control)]).

frame(Peer, Control, Payload) ->
    signal(Peer, [bare(Control), bare(Payload)]).

%% Terms may also be bytes already, as {bytes, _}.
signal(#{flags := Flags}, Terms) when Flags band ?FRAGMENTS =/= 0 ->
    sized([131, 68, 0 | Terms]);
signal(_Peer, Terms) ->
    sized([112 | [[131, T] || T <- Terms]]).

sized(Packet) -> [<<(iolist_size(Packet)):32>>, Packet].

%% Without the 131.
bare({bytes, Bytes}) ->
    Bytes;
bare(Term) ->
    <<131, Bytes/binary>> = term_to_binary(Term, [{minor_version, 2}]),
    Bytes.

%% The frames of one signal, in order.
fragments(Sequence, Bytes, Size) ->
    Pieces = pieces(iolist_to_binary(Bytes), Size),
    Count = length(Pieces),
    [First | Rest] = lists:zip(lists:seq(Count, 1, -1), Pieces),
    [fragment(69, Sequence, First) | [fragment(70, Sequence, Piece) || Piece <- Rest]].

fragment(69, Sequence, {Id, Piece}) -> sized([<<131, 69, Sequence:64, Id:64, 0>>, Piece]);
fragment(70, Sequence, {Id, Piece}) -> sized([<<131, 70, Sequence:64, Id:64>>, Piece]).

pieces(Bytes, Size) when byte_size(Bytes) =< Size -> [Bytes];
pieces(Bytes, Size) ->
    <<Piece:Size/binary, Rest/binary>> = Bytes,
    [Piece | pieces(Rest, Size)].

tick(Peer) -> raw(Peer, <<0:32>>).

%% The next signal, fragments joined, ticks passed over; or `closed'.
next(Peer) -> next(Peer, ?LIMIT).

%% With 'tick' in place of a limit, the next of either kind.
next(Peer, Limit) -> next(Peer, Limit, #{}).

next(Peer = #{socket := Socket}, Limit, Open) ->
    case gen_tcp:recv(Socket, 4, if Limit =:= tick -> ?LIMIT; true -> Limit end) of
        {ok, <<0:32>>} when Limit =:= tick ->
            tick;
        {ok, <<0:32>>} ->
            next(Peer, Limit, Open);
        {ok, <<Length:32>>} ->
            {ok, Packet} = gen_tcp:recv(Socket, Length, ?LIMIT),
            case Packet of
                <<131, 68, 0, Terms/binary>> ->
                    terms(Terms);
                <<112, 131, Terms/binary>> ->
                    pass_through(Terms);
                <<131, 69, Sequence:64, Id:64, 0, Piece/binary>> ->
                    joined(Peer, Limit, Open, Sequence, Id, Piece);
                <<131, 70, Sequence:64, Id:64, Piece/binary>> ->
                    joined(Peer, Limit, Open, Sequence, Id, [maps:get(Sequence, Open), Piece])
            end;
        {error, Reason} ->
            Reason
    end.

joined(_Peer, _Limit, _Open, _Sequence, 1, Bytes) -> terms(iolist_to_binary(Bytes));
joined(Peer, Limit, Open, Sequence, _Id, Bytes) -> next(Peer, Limit, Open#{Sequence => Bytes}).

terms(Bytes) ->
    case binary_to_term(<<131, Bytes/binary>>, [used]) of
        {Control, Used} when Used =:= byte_size(Bytes) + 1 ->
            Control;
        {Control, Used} ->
            <<_:(Used - 1)/binary, Payload/binary>> = Bytes,
            {Control, binary_to_term(<<131, Payload/binary>>)}
    end.

pass_through(Bytes) ->
    case binary_to_term(<<131, Bytes/binary>>, [used]) of
        {Control, Used} when Used =:= byte_size(Bytes) + 1 ->
            Control;
        {Control, Used} ->
            <<_:(Used - 1)/binary, Payload/binary>> = Bytes,
            {Control, binary_to_term(Payload)}
    end.

%% They have closed it; what they said before does not matter.
await_closed(Peer) ->
    case is_closed(Peer, ?LIMIT) of
        true -> ok;
        false -> ct:fail({still_open, Peer})
    end.

is_closed(#{socket := Socket}, Limit) ->
    is_closed(Socket, Limit);
is_closed(Socket, Limit) ->
    Deadline = erlang:monotonic_time(millisecond) + Limit,
    drain(Socket, Deadline).

drain(Socket, Deadline) ->
    case gen_tcp:recv(Socket, 0, max(0, Deadline - erlang:monotonic_time(millisecond))) of
        {ok, _} ->
            drain(Socket, Deadline);
        {error, timeout} ->
            false;
        {error, _} ->
            ok = gen_tcp:close(Socket),
            true
    end.

%% Whatever was sent before has been taken and the connection is there: what is
%% asked now is answered. Answers to what was sent before are the result.
stays(Peer = #{creation := Creation}) ->
    From = pid(Peer, 1),
    Nobody = no_pid(Peer),
    Ref = ref(Peer, [erlang:unique_integer([positive]) band 16#3FFFF, 1, Creation]),
    ok = send(Peer, {19, From, Nobody, Ref}),
    until_noproc(Peer, {28, Nobody, From, Ref}).

until_noproc(Peer, Answer) ->
    case next(Peer) of
        {Answer, noproc} ->
            [];
        Reason when is_atom(Reason) ->
            ct:fail({connection_lost, Reason});
        Signal ->
            [Signal | until_noproc(Peer, Answer)]
    end.

close(#{socket := Socket}) -> gen_tcp:close(Socket).

%%% Identifiers: real pids and references, of nodes that need not exist

%% One of ours.
pid(#{name := Name, creation := Creation}, Id) ->
    pid_at(Name, Id, Creation).

%% One of theirs, of this life or of another.
theirs(#{their_name := Name, their_creation := Creation}, Id) ->
    pid_at(Name, Id, Creation).

stale(#{their_name := Name, their_creation := Creation}, Id) ->
    pid_at(Name, Id, Creation + 1).

%% A pid of theirs that no process has had yet.
no_pid(Peer) ->
    theirs(Peer, 32_000).

pid_at(Node, Id, Creation) ->
    binary_to_term(<<131, 88, (atom(Node))/binary, Id:32, 8191:32, Creation:32>>).

ref(#{name := Name, creation := Creation}, Words) ->
    ref_at(Name, Creation, Words).

ref_at(Node, Creation, Words) ->
    Bytes = <<<<W:32>> || W <- Words>>,
    binary_to_term(<<131, 90, (length(Words)):16, (atom(Node))/binary, Creation:32, Bytes/binary>>).

atom(Name) ->
    Text = atom_to_binary(Name),
    <<119, (byte_size(Text)), Text/binary>>.
