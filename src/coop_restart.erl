%% `restart => body': how the kill switch of a VM makes a body again, that of the
%% C-node doing its part when told. In this order:
%%
%% 1. Every node, and the head's sending, is brought to a halt in both homes. Only
%%    then is all that was sent where it was sent to.
%% 2. The nodes here hand over what waits for them, and end. What was sent to one
%%    that can no longer do so, and that it was not done with, is lost.
%% 3. New nodes are made (coop_body:again/4).
%%
%% Runs inside the switch, which does nothing else until it is done.
-module(coop_restart).

-export([restart/4]).

%% For a node that does not finish what it is at.
-define(GRACE, 1_000).

-type restarts() :: [integer()].

%% @doc `Alive' are the nodes that are left. `stop' means that the co-op is to end
%% with that reason: too many restarts, or its head or other half is gone.
-spec restart(term(), coop_body:body(), [pid()], restarts()) ->
    {ok, coop_body:body(), restarts()} | {stop, Reason :: term()}.
restart(Reason, Body = #{spec := #{restart := Limit}}, Alive, Restarts) ->
    case allowed(Limit, Restarts) of
        {true, Restarts2} ->
            try
                {Held, Losses} = fall(Reason, Body, Alive),
                build(Reason, Body, Held, Losses, Restarts2)
            catch
                throw:{?MODULE, Why} -> {stop, Why}
            end;
        false ->
            {stop, Reason}
    end.

%% As a supervisor counts.
allowed(none, _Restarts) ->
    false;
allowed({Intensity, Period}, Restarts) ->
    Now = erlang:monotonic_time(millisecond),
    Recent = [Then || Then <- Restarts, Now - Then =< Period * 1000],
    length(Recent) < Intensity andalso {true, [Now | Recent]}.

%% A node that cannot be made is one more that has ended.
build(Reason, Body = #{other := Other, spec := #{restart := Limit}}, Held, Losses, Restarts) ->
    case coop_body:again(Body, Held, Reason, Losses) of
        {ok, Body2} ->
            {ok, Body2, Restarts};
        {error, Why, Losses2} ->
            end_nodes(Body),
            check_kin(Body),
            case allowed(Limit, Restarts) of
                {true, Restarts2} ->
                    _ = await_native(ask_native(Other, Why), Other),
                    build(Why, Body, Held, Losses2, Restarts2);
                false ->
                    {stop, Why}
            end
    end.

%% What is linked besides head and switch are nodes just made.
end_nodes(#{head := Head, other := Other}) ->
    {links, Links} = process_info(self(), links),
    New = [Pid || Pid <- Links, is_pid(Pid), Pid =/= Head, Pid =/= Other],
    [exit(Pid, kill) || Pid <- New],
    [await_exit(Pid) || Pid <- New],
    ok.

%%% To a halt

fall(Reason, Body, Alive) ->
    #{head := Head, other := Other, nodes := Nodes, ledgers := Ledgers} = Body,
    HeadIsHere = is_map_key([], Ledgers),
    HeadIsHere andalso (Head ! {'$coop', stop_entry, self()}),
    lists:foreach(fun(Pid) -> Pid ! {'$coop', halt, self()} end, Alive),
    Request = ask_native(Other, Reason),
    Timer = erlang:start_timer(?GRACE, self(), halt),
    Halted = await_halt(Alive, [], Timer, Body),
    cancel(Timer),
    HeadIsHere andalso await_entry_stopped(Head, Other),
    Native = await_native(Request, Other),
    lists:foreach(fun(Pid) -> Pid ! {'$coop', hand_over, self(), Reason} end, Halted),
    Kept = maps:from_list([{Pid, Kept} || Pid <- Halted, Kept <- await_held(Pid)]),
    Gone = [Name || {Name, Pid} <- Nodes, not is_map_key(Pid, Kept)],
    Losses = lists:foldl(
        fun coop_body:add/2,
        #{
            lost => lists:sum([lost(Name, Native, Body) || Name <- Gone]),
            delivered => lists:sum([
                coop_ledger:sent(0, maps:get(Name, Ledgers))
             || {Name, _Pid} <- Nodes
            ])
        },
        [OfOne || {_Items, OfOne} <- maps:values(Kept)]
    ),
    Held = [
        {Name, Items}
     || {Name, Pid} <- Nodes, {Items, _} <- [maps:get(Pid, Kept, {[], none})]
    ],
    {maps:from_list(Held), Losses}.

%% What was sent to a node and it was not done with.
lost(Name, Native, #{spec := Spec, ledgers := Ledgers}) ->
    Sent = lists:sum([
        case Ledgers of
            #{From := Ledger} -> coop_ledger:sent(Edge, Ledger);
            #{} -> proplists:get_value(Edge, Native, 0)
        end
     || {Edge, From, To} <- coop_body:edges(Spec), To =:= Name
    ]),
    coop_ledger:left(Sent, maps:get(Name, Ledgers)).

await_halt([], Halted, _Timer, _Body) ->
    Halted;
await_halt(Left, Halted, Timer, Body) ->
    receive
        {'$coop', halted, Pid} ->
            await_halt(Left -- [Pid], [Pid | Halted], Timer, Body);
        {'EXIT', Pid, Reason} ->
            check(Pid, Reason, Body),
            %% also one that has halted: it hands nothing over any more
            case is_linked(Pid) of
                true -> await_halt(Left, Halted, Timer, Body);
                false -> await_halt(Left -- [Pid], Halted -- [Pid], Timer, Body)
            end;
        {timeout, Timer, halt} ->
            [exit(Pid, kill) || Pid <- Left],
            await_halt(Left, Halted, Timer, Body)
    end.

await_entry_stopped(Head, Other) ->
    receive
        {'$coop', entry_stopped, Head} -> ok;
        {'EXIT', Pid, Reason} when Pid =:= Head; Pid =:= Other -> throw({?MODULE, Reason})
    end.

%% Nothing, if it was killed on the way.
await_held(Pid) ->
    receive
        {'$coop', held, Pid, Items, Losses} ->
            await_exit(Pid),
            [{Items, Losses}];
        {'EXIT', Pid, _} ->
            []
    end.

await_exit(Pid) ->
    receive
        {'EXIT', Pid, _} -> ok
    end,
    flush_fell(Pid).

%% What it said on its way down is known.
flush_fell(Pid) ->
    receive
        {'$coop', fell, Pid, _} -> flush_fell(Pid)
    after 0 -> ok
    end.

check_kin(#{head := Head, other := Other}) ->
    receive
        {'EXIT', Pid, Reason} when Pid =:= Head; Pid =:= Other -> throw({?MODULE, Reason})
    after 0 -> ok
    end.

check(Pid, Reason, #{head := Pid}) -> throw({?MODULE, Reason});
check(Pid, Reason, #{other := Pid}) -> throw({?MODULE, Reason});
check(_Pid, _Reason, _Body) -> ok.

is_linked(Pid) ->
    {links, Links} = process_info(self(), links),
    lists:member(Pid, Links).

cancel(Timer) ->
    _ = erlang:cancel_timer(Timer),
    receive
        {timeout, Timer, halt} -> ok
    after 0 -> ok
    end.

%%% The other half

ask_native(undefined, _Reason) ->
    undefined;
ask_native(Other, Reason) ->
    gen:send_request(Other, '$coop', {fall, Reason}).

%% How much its nodes have sent to those here, by edge.
await_native(undefined, _Other) ->
    [];
await_native(Request, Other) ->
    case gen:wait_response(Request, infinity) of
        {reply, {ok, Sent}} ->
            flush_fell(Other),
            Sent;
        {reply, {error, Reason}} ->
            throw({?MODULE, Reason});
        {error, {Reason, _}} ->
            throw({?MODULE, Reason})
    end.
