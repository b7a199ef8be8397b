%% Where data go that a co-op cannot keep. Nothing waits here: what the way to
%% another node has no room for is not sent, and who asked counts it.
-module(coop_dead_letter).

-export([send/5]).
-export_type([destination/0]).

-type destination() :: none | {pid, pid()} | {name, atom(), node()}.

%% @doc `false' if it could not be sent. A dead letter that is lost once more is
%% not sent again.
-spec send(destination(), Head :: pid(), atom(), Datum :: term(), Reason :: term()) -> boolean().
send(none, _Head, _Node, _Datum, _Reason) ->
    false;
send(_To, _Head, _Node, {coop_dead_letter, _, _, _, _}, _Reason) ->
    false;
send(To, Head, Node, Datum, Reason) ->
    Letter = {coop_dead_letter, Head, Node, Datum, Reason},
    erlang:send(address(To), Letter, [nosuspend]) =:= ok.

address({pid, Pid}) -> Pid;
address({name, Name, Node}) -> {Name, Node}.
